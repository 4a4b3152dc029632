package controllers

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// unlabelled is a pod of the account "pg" that does not show its role, in a world where it is data.
func unlabelled(namespace, name string) (*compile.Pod, *corev1.Pod) {
	uid := types.UID(namespace + "/" + name)
	return &compile.Pod{Namespace: namespace, Name: name, UID: uid, ServiceAccount: "pg"},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid}}
}

func roleOf(t *testing.T, l *Reconciler, p *corev1.Pod) string {
	t.Helper()
	now := &corev1.Pod{}
	if err := l.Client.Get(t.Context(), client.ObjectKeyFromObject(p), now); err != nil {
		t.Fatal(err)
	}
	return now.Labels[v1alpha1.RoleLabel]
}

// always is news without end.
func always() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// The API server may not be able to ask the webhook yet when the first pass
// comes; that the news ends soon after must not delay the next try.
func TestAPodThatWasRefusedIsTriedAgainWithoutNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, pod := unlabelled("shop", "db")
		passes, tries := 0, 0
		w := &world{snapshot: compile.Snapshot{TierRoles: []*v1alpha1.TierRole{tierRole("a", "data", "pg")}, Pods: []*compile.Pod{p}}}
		w.next = func() <-chan struct{} {
			if passes++; passes < 4 {
				return always()
			}
			return nil
		}
		l, _ := loop(t, w, interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				if tries++; tries == 1 {
					return errors.New("the webhook is not there yet")
				}
				return c.Patch(ctx, o, p, opts...)
			},
		}, pod)
		ctx, cancel := context.WithTimeout(t.Context(), 2*retryInterval)
		defer cancel()
		if err := l.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if got := roleOf(t, l, pod); got != "data" {
			t.Errorf("role label %q after %v, want data", got, 2*retryInterval)
		}
	})
}

// The loop runs for an hour in which something changes all the time.
func TestAPodThatIsRefusedIsTriedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused, refusedPod := unlabelled("shop", "refused")
		sound, soundPod := unlabelled("shop", "sound")
		w := &world{next: always, snapshot: compile.Snapshot{
			TierRoles: []*v1alpha1.TierRole{tierRole("a", "data", "pg")}, Pods: []*compile.Pod{refused, sound}}}
		var tries []time.Duration
		start := time.Now()
		l, _ := loop(t, w, interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				if o.GetName() == "refused" {
					tries = append(tries, time.Since(start))
					return errors.New("refused by another webhook")
				}
				err := c.Patch(ctx, o, p, opts...)
				sound.Labels = map[string]string{v1alpha1.RoleLabel: "data"} // the watch's news
				return err
			},
		}, refusedPod, soundPod)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := l.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if got := roleOf(t, l, soundPod); got != "data" {
			t.Errorf("the pod after the one that is refused has the role label %q, want data", got)
		}
		// After 2 seconds, 4, 8 … and then every 10 minutes.
		if len(tries) < 10 || len(tries) > 15 {
			t.Fatalf("%d tries in an hour, want a dozen: %v", len(tries), tries)
		}
		if first, last := tries[1]-tries[0], tries[len(tries)-1]-tries[len(tries)-2]; first > 3*time.Second || last < maxRetryInterval {
			t.Errorf("the first pause is %v and the last %v, want about %v and %v", first, last, retryInterval, maxRetryInterval)
		}
	})
}

func TestPodsOfExemptNamespacesAreLeftAlone(t *testing.T) {
	exempt, exemptPod := unlabelled("kube-system", "dns")
	guarded, guardedPod := unlabelled("shop", "db")
	tr := tierRole("a", "data", "pg")
	tr.Spec.Namespaces = []string{"kube-system", "shop"}
	w := &world{snapshot: compile.Snapshot{TierRoles: []*v1alpha1.TierRole{tr}, Pods: []*compile.Pod{exempt, guarded},
		Defaults: policy.Defaults{Exempt: []string{"kube-system"}}}}
	l, _ := loop(t, w, interceptor.Funcs{}, exemptPod, guardedPod)
	if err := l.repairRoleLabels(t.Context(), &w.snapshot); err != nil {
		t.Fatal(err)
	}
	for pod, want := range map[*corev1.Pod]string{exemptPod: "", guardedPod: "data"} {
		if got := roleOf(t, l, pod); got != want {
			t.Errorf("pod %s/%s: role label %q, want %q", pod.Namespace, pod.Name, got, want)
		}
	}
}
