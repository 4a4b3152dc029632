package compile_test

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/canonical"
	"github.com/tierwall/tierwall/test/generate"
)

// Whatever it was compiled with before, a cluster gives what Compile gives.
func TestAClusterCompilesAsCompileDoes(t *testing.T) {
	type policies struct {
		nps  []*networkingv1.NetworkPolicy
		cnps []*policyv1alpha2.ClusterNetworkPolicy
	}
	for seed := range uint64(60) {
		s, other := generate.Cluster(generate.NewRand(seed), generate.Small), generate.Cluster(generate.NewRand(seed+1), generate.Small)
		known := map[any]*compile.Policy{}
		read := func(ps policies) (out []*compile.Policy) {
			for _, np := range ps.nps {
				if known[np] == nil {
					known[np] = compile.ReadNetworkPolicy(np)
				}
				out = append(out, known[np])
			}
			for _, cnp := range ps.cnps {
				if known[cnp] == nil {
					known[cnp] = compile.ReadClusterNetworkPolicy(cnp)
				}
				out = append(out, known[cnp])
			}
			return out
		}
		for _, node := range []string{"", s.Nodes[0].Name} {
			cluster := compile.NewCluster(s, node)
			for i, ps := range []policies{
				{s.NetworkPolicies, s.ClusterNetworkPolicies}, {other.NetworkPolicies, s.ClusterNetworkPolicies},
				{s.NetworkPolicies, other.ClusterNetworkPolicies}, {}, {s.NetworkPolicies, s.ClusterNetworkPolicies},
			} {
				same := *s
				same.NetworkPolicies, same.ClusterNetworkPolicies = ps.nps, ps.cnps
				want, _ := compile.Compile(&same, node)
				got, err := cluster.Compile(t.Context(), read(ps))
				if err != nil {
					t.Fatal(err)
				}
				if canonical.Text(got) != canonical.Text(want) {
					t.Fatalf("seed %d, policies %d: the cluster's (+) is not what Compile gives (-):\n%s", seed, i, lineDiff(canonical.Text(want), canonical.Text(got)))
				}
			}
		}
	}
}
