//go:build netns

package nft

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/enforcer/diff"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// load is a cluster with pods on the node that is measured, others elsewhere, and policies of
// which each local pod has about two, and the first one a tenth of all.
type load struct{ local, remote, policies int }

func (l load) String() string {
	return fmt.Sprintf("%d pods, %d elsewhere, %d policies", l.local, l.remote, l.policies)
}

const loadNamespaces, loadApps = 10, 50

func (l load) snapshot() *compile.Snapshot {
	s := &compile.Snapshot{Defaults: policy.Defaults{Action: policy.Deny}}
	s.Nodes = []*compile.Node{
		{Name: "node", Addrs: []netip.Addr{address("192.168.0.1")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/23")}},
		{Name: "other", Addrs: []netip.Addr{address("192.168.0.2")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.64.0.0/10")}},
	}
	for i := range loadNamespaces {
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: fmt.Sprint("ns-", i), Labels: map[string]string{"kubernetes.io/metadata.name": fmt.Sprint("ns-", i)}})
	}
	for i := range l.local + l.remote {
		p := &compile.Pod{Namespace: fmt.Sprint("ns-", i%loadNamespaces), Name: fmt.Sprint("pod-", i), UID: types.UID(fmt.Sprint(i)), Node: "node",
			Labels: map[string]string{"app": fmt.Sprint("app-", i/loadNamespaces%loadApps)},
			Addrs:  []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i + 2)})}}
		if i >= l.local {
			p.Node, p.Addrs = "other", []netip.Addr{netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)})}
		}
		s.Pods = append(s.Pods, p)
	}
	for i := range l.policies {
		s.NetworkPolicies = append(s.NetworkPolicies, loadPolicy(i))
	}
	return s
}

// loadPolicy admits one application to a port of another; every tenth is about the first pod.
func loadPolicy(i int) *networkingv1.NetworkPolicy {
	namespace, app := i%loadNamespaces, i/loadNamespaces%loadApps
	if i%10 == 0 {
		namespace, app = 0, 0
	}
	port := intstr.FromInt32(int32(5000 + i%97))
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns-", namespace), Name: fmt.Sprint("np-", i)}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": fmt.Sprint("app-", app)}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
		From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{
			MatchLabels: map[string]string{"app": fmt.Sprint("app-", (i*7+1)%loadApps)}}}},
		Ports: []networkingv1.NetworkPolicyPort{{Port: &port}}}}
	return np
}

// loadChanges are snapshots that differ in one thing.
func loadChanges(l load) map[string]*compile.Snapshot {
	member, policies, pod, label := l.snapshot(), l.snapshot(), l.snapshot(), l.snapshot()
	member.Pods = member.Pods[:len(member.Pods)-1]
	policies.NetworkPolicies = append(policies.NetworkPolicies, loadPolicy(l.policies+11))
	pod.Pods = append(pod.Pods[:l.local/2:l.local/2], pod.Pods[l.local/2+1:]...)
	other := *label.Pods[len(label.Pods)-1]
	other.Labels = map[string]string{"app": "app-3"}
	label.Pods[len(label.Pods)-1] = &other
	mine := l.snapshot()
	mine.NetworkPolicies = append(mine.NetworkPolicies, loadPolicy((l.policies/10+1)*10))
	return map[string]*compile.Snapshot{"a pod elsewhere": member, "a label elsewhere": label, "a policy": policies,
		"a policy of the pod that has many": mine, "a local pod": pod}
}

var loads = []load{{54, 450, 10}, {54, 450, 1000}, {250, 250, 1000}, {54, 10_000, 1000}}

func BenchmarkUpdate(b *testing.B) {
	for _, l := range loads {
		before, _ := compile.Compile(l.snapshot(), "node")
		for name, s := range loadChanges(l) {
			after, _ := compile.Compile(s, "node")
			there, back := diff.Between(before, after), diff.Between(after, before)
			b.Run(l.String()+"/"+name, func(b *testing.B) {
				n := newNode(b)
				backend := n.backend()
				n.apply(backend, before)
				start := cpuTime(b)
				n.do(func() error {
					for i := 0; b.Loop(); i++ {
						c := there
						if i%2 == 1 {
							c = back
						}
						if err := backend.Update(b.Context(), c); err != nil {
							return err
						}
						b.StopTimer()
						time.Sleep(apart) // as the agent does
						b.StartTimer()
					}
					return nil
				})
				b.ReportMetric(float64((cpuTime(b)-start).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

// cpuTime is what this process and the programs that it started have used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

func BenchmarkColdStart(b *testing.B) {
	for _, l := range loads {
		p, _ := compile.Compile(l.snapshot(), "node")
		b.Run(l.String(), func(b *testing.B) {
			for b.Loop() {
				n := newNode(b)
				n.apply(n.backend(), p)
			}
		})
	}
}

func BenchmarkRestart(b *testing.B) {
	for _, l := range loads {
		p, _ := compile.Compile(l.snapshot(), "node")
		b.Run(l.String(), func(b *testing.B) {
			n := newNode(b)
			n.apply(n.backend(), p)
			for b.Loop() {
				n.apply(n.backend(), p)
			}
		})
	}
}
