package effect

import (
	"cmp"
	"context"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// grouping groups pods that no policy can tell apart. A pod of a known group costs no more than its key.
type grouping struct {
	*podModel
	sameRoles bool // in both states
	byKey     map[string]*groupedPods
	key       []byte // scratch space, of the last pod
}

// groupedPods are the pods of a group that were found so far.
type groupedPods struct {
	first  [2]*compile.Pod // the first by name
	shared [2]map[string]string
	claim  compile.Claim
	pods   int
}

// newPodModel groups the pods of both snapshots. It returns the error of the context if that ends.
func newPodModel(ctx context.Context, snapshots [2]*compile.Snapshot, v *labelVocabulary, networks []netip.Prefix) (*podModel, error) {
	model := &podModel{vocabulary: v, byName: map[string]*namespace{}, hypothetical: map[[2]string]*podGroup{}, existing: map[*namespace][]*podGroup{}}
	model.nodes = compile.NewNodeNetworks(snapshots[stateAfter].Nodes)
	for i, n := range networks {
		model.networks.addPrefix(n, i)
	}
	for _, m := range bothStates {
		model.roles[m] = roles.New(snapshots[m].TierRoles)
		for _, n := range snapshots[m].Namespaces {
			model.namespaceNamed(n.Name).labels[m] = n.Labels
		}
	}
	model.tierRoles = tierRoleCandidates(snapshots)
	if err := model.groupPods(ctx, snapshots); err != nil {
		return nil, err
	}
	model.namespaces = slices.SortedFunc(maps.Values(model.byName), func(a, b *namespace) int { return compareText(a.name, b.name) })
	return model, nil
}

// groupPods adds the groups of the pods of both states. It returns the error of the context if that ends.
func (model *podModel) groupPods(ctx context.Context, snapshots [2]*compile.Snapshot) error {
	g := &grouping{podModel: model, byKey: map[string]*groupedPods{},
		sameRoles: sameList(snapshots[stateBefore].TierRoles, snapshots[stateAfter].TierRoles)}
	if g.sameRoles && sameList(snapshots[stateBefore].Pods, snapshots[stateAfter].Pods) {
		for _, p := range snapshots[stateAfter].Pods {
			if err := ctx.Err(); err != nil {
				return err
			}
			g.addPod([2]*compile.Pod{p, p})
		}
	} else {
		for _, pods := range podPairs(snapshots) {
			if err := ctx.Err(); err != nil {
				return err
			}
			g.addPod(pods)
		}
	}
	g.addGroups()
	return nil
}

// podPairs returns the pods in both states, by namespace and name; nil is absent.
func podPairs(snapshots [2]*compile.Snapshot) map[[2]string][2]*compile.Pod {
	out := map[[2]string][2]*compile.Pod{}
	for _, m := range bothStates {
		for _, p := range snapshots[m].Pods {
			name := [2]string{p.Namespace, p.Name}
			pods := out[name]
			pods[m] = p
			out[name] = pods
		}
	}
	return out
}

// addPod adds a pod to its group. Pods on the host network and ended ones have no policies, and are left out.
func (g *grouping) addPod(pods [2]*compile.Pod) {
	var labels [2]map[string]string
	var now *compile.Pod
	key := g.key[:0]
	for _, m := range bothStates {
		p := pods[m]
		switch {
		case p == nil || p.HostNetwork || p.Ended:
			pods[m] = nil
			key = append(key, 0xff)
		case m == stateAfter && g.sameRoles && p == pods[stateBefore]:
			labels[stateAfter], now = labels[stateBefore], p
			key = append(key, key...)
		default:
			match := g.roles[m].Of(p.Namespace, p.ServiceAccount, p.Labels)
			labels[m], now = match.Apply(p.Labels), p
			key = g.appendNetworks(g.appendKey(key, p, match.Role, labels[m]), p.Addrs)
		}
	}
	if g.key = key; now == nil {
		return
	}
	of, claim := g.byKey[string(key)], g.claimOf(now)
	if of == nil {
		of = &groupedPods{first: pods, claim: claim}
		for _, m := range bothStates {
			of.shared[m] = g.vocabulary.mentionedLabels(labels[m])
		}
		g.byKey[string(key)] = of
	}
	of.addPod(pods, claim, labels)
}

// claimOf returns the pod's weakest claim to one of its addresses.
func (g *grouping) claimOf(p *compile.Pod) compile.Claim {
	weakest := compile.Claim{Pod: p}
	for _, a := range p.Addrs {
		if c := g.nodes.Claim(p, a.Unmap()); c.Place > weakest.Place {
			weakest = c
		}
	}
	return weakest
}

func (g *groupedPods) addPod(pods [2]*compile.Pod, claim compile.Claim, labels [2]map[string]string) {
	g.pods++
	if claim.Pod.Name < g.firstName() {
		g.first = pods
	}
	if claim.Compare(g.claim) < 0 {
		g.claim = claim
	}
	for _, m := range bothStates {
		g.shared[m] = commonLabels(g.shared[m], labels[m])
	}
}

// firstName returns the name of the first pod.
func (g *groupedPods) firstName() string {
	if g.first[stateAfter] != nil {
		return g.first[stateAfter].Name
	}
	return g.first[stateBefore].Name
}

// addGroups adds the groups to the model, in the order of their first pods.
func (g *grouping) addGroups() {
	for _, of := range g.byKey {
		one := &podGroup{namespace: g.namespaceNamed(of.claim.Pod.Namespace), pods: of.pods, first: of.firstName(), claim: of.claim}
		for _, m := range bothStates {
			switch like := of.first[m]; {
			case like == nil:
			case m == stateAfter && g.sameRoles && like == of.first[stateBefore]:
				one.kinds[stateAfter] = one.kinds[stateBefore]
			default:
				one.kinds[m] = g.kindOf(m, like)
				one.kinds[m].shared = of.shared[m]
			}
		}
		g.groups = append(g.groups, one)
	}
	slices.SortFunc(g.groups, func(a, b *podGroup) int {
		if a.namespace == b.namespace {
			return cmp.Compare(a.first, b.first)
		}
		return compareText(a.namespace.name+"/"+a.first, b.namespace.name+"/"+b.first)
	})
	for _, one := range g.groups {
		g.existing[one.namespace] = append(g.existing[one.namespace], one)
	}
}

// appendNetworks appends which networks contain the addresses.
func (g *grouping) appendNetworks(key []byte, addrs []netip.Addr) []byte {
	for _, a := range addrs {
		in := g.networks.setsContaining(a.Unmap())
		key = append(key, 2, byte(a.Unmap().BitLen()), byte(len(in)))
		for _, n := range in {
			key = binary.BigEndian.AppendUint32(key, uint32(n))
		}
	}
	return key
}
