package clustercache

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// addressed is a pod with an address, of an age.
func addressed(name, addr string, created int64, with ...func(*corev1.Pod)) *corev1.Pod {
	p := starting()
	p.Name, p.CreationTimestamp = name, metav1.Unix(created, 0)
	p.Status.PodIPs = []corev1.PodIP{{IP: "192.0.2.9"}, {IP: addr}}
	for _, f := range with {
		f(p)
	}
	return p
}

func TestNamesAreThoseOfThePodsThatHaveTheAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unstarted()
		n := w.Names()
		ending := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
		ended := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
		host := func(p *corev1.Pod) { p.Spec.HostNetwork = true }
		for _, p := range []*corev1.Pod{
			addressed("one", "10.0.0.1", 1), addressed("ended", "10.0.0.1", 9, ended), addressed("host", "10.0.0.1", 9, host),
			addressed("ending", "10.0.0.2", 9, ending), addressed("old", "10.0.0.2", 1), addressed("new", "10.0.0.2", 2),
			addressed("last", "10.0.0.3", 1, ending),
		} {
			ok(t, w.kinds.pods.Add(p))
		}
		for addr, want := range map[string]string{
			"10.0.0.1": "prod/one", "10.0.0.2": "prod/old", "10.0.0.3": "prod/last", "10.0.0.4": "",
		} {
			time.Sleep(lookEvery)
			if got := n.Of(netip.MustParseAddr(addr)); got != want {
				t.Errorf("%s is %q, want %q", addr, got, want)
			}
		}
	})
}

// Whoever can have packets denied from many addresses must not make the agent busy, or large.
func TestNamesOfManyAddressesCostLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := unstarted()
		ok(t, w.kinds.pods.Add(addressed("one", "10.0.0.1", 1)))
		n, one := w.Names(), netip.MustParseAddr("10.0.0.1")
		time.Sleep(time.Second)
		for range 2 { // looked for, and kept
			if n.Of(one) != "prod/one" {
				t.Error("a pod has no name")
			}
		}
		looks, addr := 0, netip.MustParseAddr("10.1.0.0")
		for range 3 * maxNames {
			before := n.looked
			if addr = addr.Next(); n.Of(addr) != "" {
				t.Fatalf("%v has a name", addr)
			}
			if n.looked != before {
				looks++
			}
			time.Sleep(lookEvery / 10)
		}
		if most := 3*maxNames/10 + 1; looks > most || len(n.known) > maxNames {
			t.Errorf("looked %d times, want %d at most; %d names are kept", looks, most, len(n.known))
		}
		ok(t, w.kinds.pods.Delete(addressed("one", "10.0.0.1", 1)))
		time.Sleep(nameLasts)
		if got := n.Of(one); got != "" {
			t.Errorf("a pod that is gone is still %q", got)
		}
	})
}
