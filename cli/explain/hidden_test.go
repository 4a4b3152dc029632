package explain_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cli/explain"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

// puzzle is a cluster of which some facts are hidden: the addresses of pods, and the labels of namespaces.
type puzzle struct {
	*rand.Rand
	cluster    *compile.Snapshot
	pods       map[string]bool // by "namespace/name"
	namespaces map[string]bool
}

func newPuzzle(seed uint64) *puzzle {
	r := generate.NewRand(seed)
	p := &puzzle{r, generate.Cluster(r, generate.Small), map[string]bool{}, map[string]bool{"ghost": true}}
	for i, pod := range p.cluster.Pods {
		pod.Ended, pod.Terminating, pod.HostNetwork = false, false, false
		pod.Addrs = podAddrs(pod, i+2)
		p.pods[nameOf(pod)] = r.IntN(2) == 0
	}
	for _, n := range p.cluster.Nodes {
		n.Addrs = n.Addrs[:2] // without a bridge
	}
	for _, n := range p.cluster.Namespaces {
		p.namespaces[n.Name] = r.IntN(3) == 0
	}
	return p
}

func nameOf(p *compile.Pod) string { return p.Namespace + "/" + p.Name }

// podAddrs are addresses of the pod's node's pod networks.
func podAddrs(p *compile.Pod, i int) []netip.Addr {
	node := strings.TrimPrefix(p.Node, "node-")
	return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.0.%s.%d", node, i)), netip.MustParseAddr(fmt.Sprintf("fd00:2:0:%s::%x", node, i))}
}

// facts are what is not hidden.
func (p *puzzle) facts() *explain.Facts {
	c := generate.Objects(p.Rand, p.cluster)
	objects := map[state.Key]client.Object{}
	add := func(kind string, o client.Object) { objects[state.KeyOf(kind, o)] = o }
	for _, pod := range c.Pods {
		if p.pods[pod.Namespace+"/"+pod.Name] {
			pod.Status.PodIP, pod.Status.PodIPs = "", nil
		}
		add("Pod", pod)
	}
	for _, n := range c.Namespaces {
		if !p.namespaces[n.Name] {
			add("Namespace", n)
		}
	}
	for _, n := range c.Nodes {
		add("Node", n)
	}
	for _, np := range c.NetworkPolicies {
		add("NetworkPolicy", np)
	}
	for _, cnp := range c.ClusterNetworkPolicies {
		add("ClusterNetworkPolicy", cnp)
	}
	for _, tr := range c.TierRoles {
		add("TierRole", tr)
	}
	return explain.NewFacts(state.New(objects), p.cluster.Defaults, explain.Networks{}, false)
}

// complete is the cluster with the hidden facts as they could be.
func (p *puzzle) complete() *compile.Snapshot {
	out := *p.cluster
	out.Pods, out.Namespaces = nil, nil
	free := p.Perm(200)
	for _, pod := range p.cluster.Pods {
		copied := *pod
		if p.pods[nameOf(pod)] {
			copied.Addrs, free = podAddrs(pod, 40+free[0]), free[1:]
		}
		out.Pods = append(out.Pods, &copied)
	}
	for _, n := range p.cluster.Namespaces {
		if !p.namespaces[n.Name] {
			out.Namespaces = append(out.Namespaces, n)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.namespaces)) {
		if !p.namespaces[name] {
			continue
		}
		labels := map[string]string{"kubernetes.io/metadata.name": name}
		for key, values := range map[string][]string{"team": {"a", "b", ""}, "env": {"live", "dev"}} {
			if i := p.IntN(len(values) + 1); i < len(values) {
				labels[key] = values[i]
			}
		}
		out.Namespaces = append(out.Namespaces, &compile.Namespace{Name: name, Labels: labels})
	}
	return &out
}

// possible are the oracle's verdicts on a flow between two pods, for many clusters that the facts allow.
func (p *puzzle) possible(from, to, family int, port explain.Port) map[string]bool {
	out := map[string]bool{}
	for range 15 {
		s := p.complete()
		c := generate.Objects(p.Rand, s)
		flow := policy.Flow{Source: s.Pods[from].Addrs[family], Destination: s.Pods[to].Addrs[family], Protocol: port.Protocol, DestinationPort: port.Number}
		verdict := said(oracle.Decide(c, flow))
		if verdict == "allowed" && len(oracle.Audited(oracle.Egress(c, flow), oracle.Ingress(c, flow))) > 0 {
			verdict = "audited"
		}
		out[verdict] = true
	}
	return out
}

// An answer that is certain is right whatever the hidden facts are, and one that is not names one of them.
func TestHiddenFactsAreNotMadeUp(t *testing.T) {
	asked, cautious := map[string]int{}, 0
	for seed := range uint64(40) {
		p := newPuzzle(seed)
		facts := p.facts()
		for range 6 {
			from, to := p.IntN(len(p.cluster.Pods)), p.IntN(len(p.cluster.Pods))
			if from == to {
				continue
			}
			port := explain.Port{Protocol: [...]policy.Protocol{policy.TCP, policy.UDP, policy.SCTP}[p.IntN(3)], Number: [...]uint16{53, 80, 443, 5432, 8080}[p.IntN(5)]}
			what := fmt.Sprintf("seed %d: %s to %s on %s", seed, nameOf(p.cluster.Pods[from]), nameOf(p.cluster.Pods[to]), port)
			for family, name := range []string{"IPv4", "IPv6"} {
				a, ok := p.answer(t, facts, from, to, port, name)
				if !ok {
					continue
				}
				asked[a.Verdict]++
				want := p.possible(from, to, family, port)
				switch {
				case a.Verdict != "unknown" && (len(want) > 1 || !want[a.Verdict]) && (a.Verdict != "audited" || want["denied"]):
					t.Errorf("%s, %s: %s, but it can be %v: %+v", what, name, a.Verdict, slices.Sorted(maps.Keys(want)), a)
				case a.Verdict == "unknown" && !p.hides(a.Because):
					t.Errorf("%s, %s: unknown because of %v, none of which is hidden", what, name, a.Because)
				case a.Verdict == "unknown" && len(want) == 1:
					cautious++
				}
			}
		}
	}
	all := 0
	for _, n := range asked {
		all += n
	}
	t.Logf("asked %v; %d answers are unknown though all clusters tried agree", asked, cautious)
	if asked["allowed"] < 40 || asked["denied"] < 150 || asked["unknown"] < 10 || asked["unknown"] > all/10 {
		t.Errorf("asked %v: too few to mean something, or too many unknown", asked)
	}
}

// answer is what explain says of the family.
func (p *puzzle) answer(t *testing.T, facts *explain.Facts, from, to int, port explain.Port, family string) (explain.Answer, bool) {
	t.Helper()
	for _, a := range question(t, facts, nameOf(p.cluster.Pods[from]), nameOf(p.cluster.Pods[to]), port.String()).Answers {
		if a.Family == "" || a.Family == family {
			return a, true
		}
	}
	return explain.Answer{}, false
}

// hides reports whether one of the facts is hidden.
func (p *puzzle) hides(facts []explain.Unknown) bool {
	return slices.ContainsFunc(facts, func(u explain.Unknown) bool {
		for pod, hidden := range p.pods {
			if hidden && strings.Contains(u.Fact, pod) {
				return true
			}
		}
		for namespace, hidden := range p.namespaces {
			if hidden && strings.HasSuffix(u.Fact, "of namespace "+namespace) {
				return true
			}
		}
		return false
	})
}
