package admit

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/rego"
)

// benchmarkCluster is a world of namespaces with ten pods of three tiers and two policies each.
func benchmarkCluster(namespaces int) *fakeCluster {
	w := &fakeCluster{}
	s := &w.snapshot
	for n := range namespaces {
		ns := fmt.Sprintf("ns-%d", n)
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: ns, Labels: labels{"kubernetes.io/metadata.name": ns}})
		for i := range 10 {
			account := []string{"web", "backend", "postgres"}[i%3]
			s.Pods = append(s.Pods, &compile.Pod{Namespace: ns, Name: fmt.Sprintf("%s-%d", account, i), ServiceAccount: account,
				Labels: labels{"app": account, "pod": fmt.Sprint(i)}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n / 200), byte(n % 200), byte(i)})}})
		}
		for _, tier := range [][2]string{{"web", "frontend"}, {"backend", "backend"}, {"postgres", "data"}} {
			s.TierRoles = append(s.TierRoles, newTierRole(ns+"-"+tier[1], v1alpha1.TierRoleSpec{
				Role: tier[1], Namespaces: []string{ns}, ServiceAccounts: []string{tier[0]}}))
		}
		for _, hop := range [][2]string{{"frontend", "backend"}, {"backend", "data"}} {
			p := hopPolicy(ns, hop[0], hop[1])
			s.NetworkPolicies = append(s.NetworkPolicies, p)
		}
	}
	return w
}

// hopPolicy lets tier from reach tier to.
func hopPolicy(namespace, from, to string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: from + "-to-" + to},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: labels{role: to}}, PolicyTypes: []networkingv1.PolicyType{"Ingress"},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{
				PodSelector: &metav1.LabelSelector{MatchLabels: labels{role: from}}}}}},
		},
	}
}

// BenchmarkPolicyRequest is a policy's creation judged by the whole library.
func BenchmarkPolicyRequest(b *testing.B) {
	var library []*v1alpha1.Guardrail
	for _, entry := range rego.Library() {
		library = append(library, &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: entry.Name}, Spec: v1alpha1.GuardrailSpec{Library: entry.Name}})
	}
	for _, namespaces := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("pods=%d", namespaces*10), func(b *testing.B) {
			h := newPolicyHandler(benchmarkCluster(namespaces), newLoadedStore(b, library...))
			h.Limit = 60e9
			req := newRequest("CREATE", "NetworkPolicy", "ns-1", nil, hopPolicy("ns-1", "frontend", "frontend"))
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				got := h.Handle(b.Context(), req)
				took = append(took, time.Since(start))
				if got.Result.Code == http.StatusInternalServerError {
					b.Fatal(got.Result.Message)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
		})
	}
}

// BenchmarkNewPod is the labelling of a new pod.
func BenchmarkNewPod(b *testing.B) {
	for _, namespaces := range []int{10, 1000} {
		b.Run(fmt.Sprintf("pods=%d", namespaces*10), func(b *testing.B) {
			h := &RoleLabelHandler{Snapshots: benchmarkCluster(namespaces), Decoder: decoder}
			req := newRequest("CREATE", "Pod", "ns-1", nil, newPod("postgres", labels{"app": "postgres"}))
			for b.Loop() {
				if got := h.Handle(b.Context(), req); !got.Allowed || len(got.Patches) != 1 {
					b.Fatalf("got %+v", got)
				}
			}
		})
	}
}
