// Package unenforced knows the kinds of network policy that other engines enforce, and
// tierwall does not.
package unenforced

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Resource is a kind of policy, and the name under which its objects are listed.
type Resource struct{ Group, Kind, Plural string }

// resources are the kinds that are known by name. What the webhook's account may list is
// these (charts/tierwall, templates/webhook).
var resources = []Resource{
	{"cilium.io", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies"},
	{"cilium.io", "CiliumNetworkPolicy", "ciliumnetworkpolicies"},
	{"crd.antrea.io", "ClusterNetworkPolicy", "clusternetworkpolicies"},
	{"crd.antrea.io", "NetworkPolicy", "networkpolicies"},
	{"crd.projectcalico.org", "GlobalNetworkPolicy", "globalnetworkpolicies"},
	{"crd.projectcalico.org", "NetworkPolicy", "networkpolicies"},
	{"k8s.cni.cncf.io", "MultiNetworkPolicy", "multi-networkpolicies"},
	{"k8s.ovn.org", "EgressFirewall", "egressfirewalls"},
	{"network.openshift.io", "EgressNetworkPolicy", "egressnetworkpolicies"},
	{"network.openshift.io", "NetNamespace", "netnamespaces"},
	{"networking.gke.io", "FQDNNetworkPolicy", "fqdnnetworkpolicies"},
	{"networking.k8s.aws", "ApplicationNetworkPolicy", "applicationnetworkpolicies"},
	{"networking.k8s.aws", "ClusterNetworkPolicy", "clusternetworkpolicies"},
	{"networking.k8s.aws", "ClusterPolicyEndpoint", "clusterpolicyendpoints"},
	{"policy.networking.k8s.io", "AdminNetworkPolicy", "adminnetworkpolicies"},
	{"policy.networking.k8s.io", "BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies"},
	{"projectcalico.org", "GlobalNetworkPolicy", "globalnetworkpolicies"},
	{"projectcalico.org", "NetworkPolicy", "networkpolicies"},
	{"security.istio.io", "AuthorizationPolicy", "authorizationpolicies"},
	{"vpcresources.k8s.aws", "SecurityGroupPolicy", "securitygrouppolicies"},
}

// groups are the API groups of other engines, in which every kind that ends in "Policy" is
// one of theirs. A group stands for its subdomains too.
var groups = []string{
	"antrea.io", "projectcalico.org", "cilium.io", "isovalent.com", "k8s.ovn.org", "network.openshift.io",
	"networking.gke.io", "networking.k8s.aws", "vpcresources.k8s.aws", "nsx.vmware.com", "acn.azure.com",
	"security.istio.io", "policy.linkerd.io", "policy.networking.k8s.io", "kubeovn.io", "k8s.cni.cncf.io",
}

// others are kinds that filter traffic under another name.
var others = map[string][]string{
	"policy.linkerd.io":    {"ServerAuthorization"},
	"kubeovn.io":           {"SecurityGroup"},
	"kuma.io":              {"MeshTrafficPermission"},
	"consul.hashicorp.com": {"ServiceIntentions"},
	"networking.k8s.aws":   {"PolicyEndpoint", "ApplicationPolicyEndpoint"},
}

// unrelated are kinds of these groups that are no network policies, although they end so.
var unrelated = map[string][]string{
	"networking.gke.io": {"HealthCheckPolicy", "GCPBackendPolicy", "GCPGatewayPolicy", "GCPSessionAffinityPolicy",
		"GCPSessionAffinityFilterPolicy", "GCPTrafficDistributionPolicy", "GCPTrafficExtensionPolicy"},
	"cilium.io": {"CiliumBGPPeeringPolicy", "CiliumL2AnnouncementPolicy", "CiliumLocalRedirectPolicy"},
}

// enforced are the groups whose policies tierwall reads; in the first all, in the second
// those of the kind.
const (
	standardGroup = "networking.k8s.io"
	clusterGroup  = "policy.networking.k8s.io"
	clusterKind   = "ClusterNetworkPolicy"
	ownGroup      = "tierwall.io"
)

// IsPolicy reports whether a kind is a network policy that tierwall does not enforce. Any
// "…NetworkPolicy" of a group that is not tierwall's to read is one.
func IsPolicy(group, kind string) bool {
	switch {
	case group == "" || group == standardGroup || group == "extensions", inGroup(group, ownGroup),
		group == clusterGroup && kind == clusterKind:
		return false
	case slices.Contains(unrelated[group], kind):
		return false
	case slices.Contains(others[group], kind), strings.HasSuffix(kind, "NetworkPolicy"):
		return true
	}
	if slices.ContainsFunc(resources, func(r Resource) bool { return r.Group == group && r.Kind == kind }) {
		return true
	}
	return strings.HasSuffix(kind, "Policy") && slices.ContainsFunc(groups, func(g string) bool { return inGroup(group, g) })
}

// inGroup reports whether a group is another one or a subdomain of it.
func inGroup(group, of string) bool { return group == of || strings.HasSuffix(group, "."+of) }

// Resources returns the kinds that are known by name, sorted by group and kind.
func Resources() []Resource { return slices.Clone(resources) }

// Count is how many policies of a kind there are.
type Count struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
	Count int    `json:"count"`
}

// String says that the policies are not enforced, such as "3 GlobalNetworkPolicies
// (projectcalico.org) here are not enforced by tierwall".
func (c Count) String() string {
	kind, are := c.Kind, "is"
	if c.Count != 1 {
		kind, are = plural(c.Kind), "are"
	}
	return fmt.Sprintf("%d %s (%s) here %s not enforced by tierwall", c.Count, kind, c.Group, are)
}

func plural(kind string) string {
	if stem, ok := strings.CutSuffix(kind, "y"); ok {
		return stem + "ies"
	}
	if strings.HasSuffix(kind, "s") {
		return kind
	}
	return kind + "s"
}

// Counter counts policies by group and kind.
type Counter map[[2]string]int

// Add counts an object, if it is such a policy.
func (c Counter) Add(group, kind string) {
	if IsPolicy(group, kind) {
		c[[2]string{group, kind}]++
	}
}

// Counts returns what was counted, sorted by group and kind.
func (c Counter) Counts() []Count {
	var out []Count
	for _, k := range slices.SortedFunc(maps.Keys(c), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	}) {
		out = append(out, Count{Group: k[0], Kind: k[1], Count: c[k]})
	}
	return out
}
