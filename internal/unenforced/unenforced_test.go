package unenforced_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/internal/unenforced"
)

func TestPoliciesOfOtherEngines(t *testing.T) {
	for _, kind := range []string{
		"policy.networking.k8s.io/AdminNetworkPolicy", "policy.networking.k8s.io/BaselineAdminNetworkPolicy",
		"projectcalico.org/GlobalNetworkPolicy", "crd.projectcalico.org/NetworkPolicy", "projectcalico.org/StagedKubernetesNetworkPolicy",
		"cilium.io/CiliumNetworkPolicy", "cilium.io/CiliumEgressGatewayPolicy", "crd.antrea.io/ClusterNetworkPolicy",
		"security.antrea.tanzu.vmware.com/NetworkPolicy", "network.openshift.io/EgressNetworkPolicy", "network.openshift.io/NetNamespace",
		"k8s.ovn.org/EgressFirewall", "networking.gke.io/FQDNNetworkPolicy", "networking.k8s.aws/ClusterNetworkPolicy",
		"networking.k8s.aws/ClusterPolicyEndpoint", "vpcresources.k8s.aws/SecurityGroupPolicy", "security.istio.io/AuthorizationPolicy",
		"k8s.cni.cncf.io/MultiNetworkPolicy", "crd.nsx.vmware.com/SecurityPolicy", "some.new-engine.example/NetworkPolicy",
	} {
		group, name, _ := strings.Cut(kind, "/")
		if !unenforced.IsPolicy(group, name) {
			t.Errorf("%s counts as enforced, or as no policy", kind)
		}
	}
	for _, kind := range []string{
		"networking.k8s.io/NetworkPolicy", "policy.networking.k8s.io/ClusterNetworkPolicy", "tierwall.io/StagedNetworkPolicy", "extensions/NetworkPolicy",
		"networking.gke.io/HealthCheckPolicy", "projectcalico.org/IPPool", "cilium.io/CiliumIdentity", "policy/PodSecurityPolicy",
		"gateway.networking.k8s.io/BackendTLSPolicy", "kyverno.io/ClusterPolicy", "/Service",
	} {
		group, name, _ := strings.Cut(kind, "/")
		if unenforced.IsPolicy(group, name) {
			t.Errorf("%s counts as a network policy of another engine", kind)
		}
	}
	if !slices.IsSortedFunc(unenforced.Resources(), func(a, b unenforced.Resource) int { return strings.Compare(a.Group+"/"+a.Kind, b.Group+"/"+b.Kind) }) {
		t.Error("the kinds are not sorted")
	}
	for _, r := range unenforced.Resources() {
		if !unenforced.IsPolicy(r.Group, r.Kind) {
			t.Errorf("%+v is in the table and counts as enforced", r)
		}
	}
}

func TestCountsSayTheirKinds(t *testing.T) {
	c := unenforced.Counter{}
	for _, kind := range []string{"GlobalNetworkPolicy", "GlobalNetworkPolicy", "GlobalNetworkPolicy", "Tier", "IPPool"} {
		c.Add("projectcalico.org", kind)
	}
	got := c.Counts()
	if len(got) != 1 || got[0].String() != "3 GlobalNetworkPolicies (projectcalico.org) here are not enforced by tierwall" {
		t.Errorf("%v", got)
	}
	if one := (unenforced.Count{Group: "networking.k8s.aws", Kind: "ClusterPolicyEndpoint", Count: 1}).String(); one != "1 ClusterPolicyEndpoint (networking.k8s.aws) here is not enforced by tierwall" {
		t.Error(one)
	}
}
