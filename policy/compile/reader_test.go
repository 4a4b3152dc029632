package compile_test

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
)

// A reader gives what Compile gives, whatever it compiled before.
func TestAReaderCompilesAsCompileDoes(t *testing.T) {
	type policies struct {
		nps  []*networkingv1.NetworkPolicy
		cnps []*policyv1alpha2.ClusterNetworkPolicy
	}
	reader := compile.NewReader()
	for seed := range uint64(60) {
		s, other := generate.Cluster(generate.NewRand(seed), generate.Small), generate.Cluster(generate.NewRand(seed+1), generate.Small)
		cluster := reader.Cluster(s)
		for i, ps := range []policies{
			{s.NetworkPolicies, s.ClusterNetworkPolicies}, {other.NetworkPolicies, s.ClusterNetworkPolicies},
			{s.NetworkPolicies, other.ClusterNetworkPolicies}, {}, {s.NetworkPolicies, s.ClusterNetworkPolicies},
		} {
			same := *s
			same.NetworkPolicies, same.ClusterNetworkPolicies = ps.nps, ps.cnps
			want, _ := compile.Compile(&same, "")
			if got := cluster.Compile(ps.nps, ps.cnps).String(); got != want.String() {
				t.Fatalf("seed %d, policies %d: the reader's (+) is not what Compile gives (-):\n%s", seed, i, lineDiff(want.String(), got))
			}
		}
	}
}
