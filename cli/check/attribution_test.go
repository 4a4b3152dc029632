package check

import (
	"slices"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/test/generate"
)

// Whatever many policies open together is held against one of them at least, and
// what they cut off too: on random clusters.
func TestEveryRowIsSomePolicys(t *testing.T) {
	rows := 0
	for seed := uint64(1); seed <= 150; seed++ {
		r := generate.NewRand(seed)
		s := generate.Cluster(r, generate.Small)
		c := generate.Objects(r, s)
		others, policies := map[state.Key]client.Object{}, []*manifest.Object{}
		for _, p := range c.Pods {
			others[state.KeyOf("Pod", p)] = p
		}
		for _, n := range c.Namespaces {
			others[state.KeyOf("Namespace", n)] = n
		}
		for _, n := range c.Nodes {
			others[state.KeyOf("Node", n)] = n
		}
		for _, tr := range c.TierRoles {
			others[state.KeyOf("TierRole", tr)] = tr
		}
		for _, np := range c.NetworkPolicies {
			policies = append(policies, &manifest.Object{Kind: "NetworkPolicy", Namespace: np.Namespace, Name: np.Name, Value: np})
		}
		for _, cnp := range c.ClusterNetworkPolicies {
			policies = append(policies, &manifest.Object{Kind: "ClusterNetworkPolicy", Name: cnp.Name, Value: cnp})
		}
		steps, err := stepsOf(t.Context(), state.State{}.With(others), policies, c.Defaults)
		if err != nil {
			t.Fatal(err)
		}
		judged := 0
		for _, s := range steps {
			p := newParts(s)
			var added, removed []effect.Row
			for _, o := range s.policies {
				part := p.partFor(o)
				added, removed = append(added, part.Added...), append(removed, part.Removed...)
				judged++
			}
			for _, row := range s.effect.Added {
				if rows++; !contains(added, row) {
					t.Fatalf("seed %d: nobody is judged for %+v", seed, row)
				}
			}
			for _, row := range s.effect.Removed {
				if !contains(removed, row) {
					t.Fatalf("seed %d: nobody is judged for the loss of %+v", seed, row)
				}
			}
		}
		if judged != len(policies) {
			t.Fatalf("seed %d: %d policies in the steps, want %d", seed, judged, len(policies))
		}
	}
	if rows < 1000 {
		t.Errorf("%d rows: too few to mean something", rows)
	}
}

func contains(rows []effect.Row, row effect.Row) bool {
	return slices.ContainsFunc(rows, func(r effect.Row) bool {
		return r.Direction == row.Direction && r.From.Name == row.From.Name && r.To.Name == row.To.Name &&
			r.From.Namespace == row.From.Namespace && r.To.Namespace == row.To.Namespace &&
			slices.Equal(r.Ports, row.Ports) && slices.Equal(r.Via, row.Via)
	})
}
