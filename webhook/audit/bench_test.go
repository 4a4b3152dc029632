package audit

import (
	"fmt"
	"net/netip"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/rego"
)

// town is a world of namespaces with ten pods of two tiers and one sound policy each.
func town(namespaces int) Inventory {
	w := shop()
	s := w.Snapshot
	for n := range namespaces {
		ns := fmt.Sprintf("ns-%d", n)
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: ns, Labels: map[string]string{"environment": "prod"}})
		for i := range 10 {
			account := []string{"api", "db"}[i%2]
			s.Pods = append(s.Pods, &compile.Pod{Namespace: ns, Name: fmt.Sprintf("%s-%d", account, i), ServiceAccount: account,
				Labels: map[string]string{"app": account}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n / 200), byte(n % 200), byte(i)})}})
		}
		for role, account := range map[string]string{"backend": "api", "data": "db"} {
			s.TierRoles = append(s.TierRoles, &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: ns + "-" + role},
				Spec: v1alpha1.TierRoleSpec{Role: role, Namespaces: []string{ns}, ServiceAccounts: []string{account}}})
		}
		w.add(allow(ns, "sound", "backend", "data"))
	}
	return w
}

// BenchmarkAudit is an audit by the whole library, without rests.
func BenchmarkAudit(b *testing.B) {
	var guardrails []*v1alpha1.Guardrail
	for _, entry := range rego.Library() {
		if entry.Name != "owner-required" {
			guardrails = append(guardrails, &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: entry.Name}, Spec: v1alpha1.GuardrailSpec{Library: entry.Name}})
		}
	}
	e, errs := rego.NewEngine(b.Context(), guardrails)
	if len(errs) > 0 {
		b.Fatal(errs)
	}
	for _, namespaces := range []int{10, 100, 1000} {
		w := town(namespaces)
		b.Run(fmt.Sprintf("pods=%d,policies=%d", namespaces*10, namespaces), func(b *testing.B) {
			found := 0
			for b.Loop() {
				findings, err := FindViolations(b.Context(), w, e, nil)
				if err != nil {
					b.Fatal(err)
				}
				found = len(findings)
			}
			b.ReportMetric(float64(found), "findings")
		})
	}
}
