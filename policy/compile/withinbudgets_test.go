package compile_test

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
)

// With budgets that ordinary policies exceed, no namespace that is said to be within them has a problem as a whole.
func TestANamespaceWithinBudgetsHasNoProblem(t *testing.T) {
	defer compile.LowerBudgets()()
	within, exceeded := 0, 0
	for seed := range uint64(300) {
		s := generate.Cluster(generate.NewRand(seed), generate.Small)
		byNamespace := map[string][]*networkingv1.NetworkPolicy{}
		for _, np := range s.NetworkPolicies {
			byNamespace[np.Namespace] = append(byNamespace[np.Namespace], np)
		}
		over := map[string]string{}
		_, problems := compile.Compile(s, "")
		for _, p := range problems {
			if p.ID.Kind == compile.NetworkPolicyKind && p.ID.Name == "" {
				over[p.ID.Namespace] = p.Message
			}
		}
		for namespace, policies := range byNamespace {
			switch message := over[namespace]; {
			case message != "":
				exceeded++
				if compile.NamespaceWithinBudgets(policies) {
					t.Errorf("seed %d: namespace %s is said to be within its budgets: %s", seed, namespace, message)
				}
			case compile.NamespaceWithinBudgets(policies):
				within++
			}
		}
	}
	if within < 20 || exceeded < 20 {
		t.Errorf("%d namespaces are within their budgets, and %d exceed them: the test shows nothing", within, exceeded)
	}
}
