package compile

import (
	"context"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/internal/contenthash"
	"github.com/tierwall/tierwall/policy"
)

// Compile is the program of the snapshot for the endpoints of one node, or of all nodes
// when the name is empty, with the problems that were found in the policies. Sets have their
// members in the whole cluster in either case; only those that some class refers to are there.
// The order of objects in the snapshot means nothing. The semantics are those of the API text
// of networking.k8s.io/v1 and policy.networking.k8s.io/v1alpha2.
func Compile(s *Snapshot, node string) (*policy.Program, []policy.Problem) {
	ps, problems := parsePolicies(s)
	c := NewCluster(s, node)
	p, over, _ := c.program(context.Background(), ps) // which does not end
	return p, joinProblems(problems, append(over, c.classes.problems...))
}

// classifier builds the classes of a snapshot, each of them once.
type classifier struct {
	defaults policy.Defaults
	built    [2]contenthash.Table[policy.ClassID, *policy.Class]
	known    [2]map[string]policy.ClassID // by what the class follows from
	sets     contenthash.Table[policy.SetID, *definition]
	problems []policy.Problem // of classes over their budget
}

func newClassifier(d policy.Defaults) *classifier {
	return &classifier{
		defaults: d,
		built:    [2]contenthash.Table[policy.ClassID, *policy.Class]{contenthash.NewTable[policy.ClassID, *policy.Class](), contenthash.NewTable[policy.ClassID, *policy.Class]()},
		known:    [2]map[string]policy.ClassID{{}, {}},
		sets:     contenthash.NewTable[policy.SetID, *definition](),
	}
}

// of are the classes of an endpoint.
func (c *classifier) of(subject subject, s selecting) (out [2]policy.ClassID) {
	for _, d := range policy.Directions {
		b := classBuilder{d, c.defaults}
		key := b.key(subject, s)
		id, ok := c.known[d][key]
		if !ok {
			over := classProblem(d, s.namespaced)
			class, _ := b.build(subject, s, over != nil, c)
			id = c.keep(d, class)
			c.known[d][key] = id
			if over != nil {
				c.problems = append(c.problems, *over)
			}
		}
		out[d] = id
	}
	return out
}

// keep returns the ID of a class, which is given to it if it is new.
func (c *classifier) keep(d policy.Direction, class *policy.Class) policy.ClassID {
	hash := class.ID
	_, id, found := c.built[d].Find(hash, class.Equal)
	if !found {
		class.ID = id
		c.built[d].Put(hash, id, class)
	}
	return id
}

// nameSet returns the ID of the set with a definition.
func (c *classifier) nameSet(def *definition) policy.SetID {
	_, id, found := c.sets.Find(def.hash, def.same)
	if !found {
		c.sets.Put(def.hash, id, def)
	}
	return id
}

// ValidateNetworkPolicy says what of a policy cannot mean what it says. Compile reports the same.
func ValidateNetworkPolicy(np *networkingv1.NetworkPolicy) []policy.Problem {
	_, problems := parseNetworkPolicy(np)
	return problems
}

// ValidateClusterNetworkPolicy says what of a policy cannot mean what it says. Compile reports the same.
func ValidateClusterNetworkPolicy(cnp *policyv1alpha2.ClusterNetworkPolicy) []policy.Problem {
	_, problems := parseClusterNetworkPolicy(cnp)
	return problems
}

func hosts(nodes []*Node, networks *NodeNetworks) []policy.Host {
	var out []policy.Host
	for _, n := range nodes {
		out = append(out, policy.Host{Name: n.Name, Addrs: networks.nodeAddrs(n), PodCIDRs: podCIDRs(n)})
	}
	return out
}

// local are the pod CIDRs of the node, or of all nodes.
func local(nodes []*Node, node string) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range nodes {
		if node == "" || n.Name == node {
			out = append(out, podCIDRs(n)...)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

func podCIDRs(n *Node) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range n.PodCIDRs {
		if p.IsValid() {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// unknown is the verdict for pods that are not known yet.
func unknown(d policy.Defaults) policy.Verdict {
	if d.Action == policy.Deny {
		return policy.Deny
	}
	return policy.Allow
}
