package effect

import (
	"cmp"
	"context"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy/compile"
)

// grouping gathers pods that no policy can tell apart. Most pods are like one before them, and cost
// no more than their key.
type grouping struct {
	*universe
	sameRoles bool // at both moments
	gathered  map[string]*gathering
	key       []byte   // of the last pod
	mentioned []string // the last pod's labels
}

// gathering is the pods of a group so far, as they are before and after.
type gathering struct {
	first  [2]*compile.Pod // by name
	shared [2]map[string]string
	claim  compile.Claim
	pods   int
}

// group makes the groups of the pods of both moments. It returns the context's error where that ends before.
func (u *universe) group(ctx context.Context, snapshots [2]*compile.Snapshot) error {
	g := &grouping{universe: u, gathered: map[string]*gathering{},
		sameRoles: sameList(snapshots[was].TierRoles, snapshots[is].TierRoles)}
	if g.sameRoles && sameList(snapshots[was].Pods, snapshots[is].Pods) {
		for _, p := range snapshots[is].Pods {
			if err := ctx.Err(); err != nil {
				return err
			}
			g.add([2]*compile.Pod{p, p})
		}
	} else {
		for _, pods := range paired(snapshots) {
			if err := ctx.Err(); err != nil {
				return err
			}
			g.add(pods)
		}
	}
	g.finish()
	return nil
}

// paired are the pods as they are at both moments, by namespace and name; nil is not there.
func paired(snapshots [2]*compile.Snapshot) map[[2]string][2]*compile.Pod {
	out := map[[2]string][2]*compile.Pod{}
	for _, m := range moments {
		for _, p := range snapshots[m].Pods {
			name := [2]string{p.Namespace, p.Name}
			pods := out[name]
			pods[m] = p
			out[name] = pods
		}
	}
	return out
}

// add adds a pod. Policy does not apply to those of the host network, nor to those that ended.
func (g *grouping) add(pods [2]*compile.Pod) {
	var labels [2]map[string]string
	var now *compile.Pod
	key := g.key[:0]
	for _, m := range moments {
		p := pods[m]
		switch {
		case p == nil || p.HostNetwork || p.Ended:
			pods[m] = nil
			key = append(key, 0xff)
		case m == is && g.sameRoles && p == pods[was]:
			labels[is], now = labels[was], p
			key = append(key, key...)
		default:
			match := g.roles[m].Of(p.Namespace, p.ServiceAccount, p.Labels)
			labels[m], now = match.Apply(p.Labels), p
			key = g.appendPlace(g.appendKey(key, p, match.Role, labels[m]), p.Addrs)
		}
	}
	if g.key = key; now == nil {
		return
	}
	of, claim := g.gathered[string(key)], g.claimOf(now)
	if of == nil {
		of = &gathering{first: pods, claim: claim}
		for _, m := range moments {
			of.shared[m] = g.vocabulary.mentioned(labels[m])
		}
		g.gathered[string(key)] = of
	}
	of.add(pods, claim, labels)
}

// claimOf is the pod's weakest claim to one of its addresses.
func (g *grouping) claimOf(p *compile.Pod) compile.Claim {
	weakest := compile.Claim{Pod: p}
	for _, a := range p.Addrs {
		if c := g.nodes.Claim(p, a.Unmap()); c.Place > weakest.Place {
			weakest = c
		}
	}
	return weakest
}

func (g *gathering) add(pods [2]*compile.Pod, claim compile.Claim, labels [2]map[string]string) {
	g.pods++
	if claim.Pod.Name < g.name() {
		g.first = pods
	}
	if claim.Compare(g.claim) < 0 {
		g.claim = claim
	}
	for _, m := range moments {
		g.shared[m] = inBoth(g.shared[m], labels[m])
	}
}

// name is that of the first pod.
func (g *gathering) name() string {
	if g.first[is] != nil {
		return g.first[is].Name
	}
	return g.first[was].Name
}

// finish adds the groups to the universe, in the order of their first pods.
func (g *grouping) finish() {
	for _, of := range g.gathered {
		one := &group{namespace: g.namespaceNamed(of.claim.Pod.Namespace), pods: of.pods, first: of.name(), claim: of.claim}
		for _, m := range moments {
			switch like := of.first[m]; {
			case like == nil:
			case m == is && g.sameRoles && like == of.first[was]:
				one.kinds[is] = one.kinds[was]
			default:
				one.kinds[m] = g.kindOf(m, like)
				one.kinds[m].shared = of.shared[m]
			}
		}
		g.groups = append(g.groups, one)
	}
	slices.SortFunc(g.groups, func(a, b *group) int {
		if a.namespace == b.namespace {
			return cmp.Compare(a.first, b.first)
		}
		return compareText(a.namespace.name+"/"+a.first, b.namespace.name+"/"+b.first)
	})
	for _, one := range g.groups {
		g.real[one.namespace] = append(g.real[one.namespace], one)
	}
}

// appendKey appends what identifies the kind of a pod with the role and the labels, as selectors see them.
func (g *grouping) appendKey(key []byte, p *compile.Pod, role string, labels map[string]string) []byte {
	g.mentioned = g.mentioned[:0]
	for name := range labels {
		if g.vocabulary.values[name] != nil {
			g.mentioned = append(g.mentioned, name)
		}
	}
	slices.Sort(g.mentioned)
	key = append(append(append(key, p.Namespace...), 0), role...)
	for _, name := range g.mentioned {
		key = append(append(append(append(key, 0), name...), '='), g.vocabulary.told(name, labels[name])...)
	}
	return appendPorts(key, p.Ports)
}

// appendPorts appends a pod's named ports, in whatever order it has them.
func appendPorts(key []byte, ports []compile.NamedPort) []byte {
	if !slices.IsSortedFunc(ports, comparePorts) {
		ports = slices.SortedFunc(slices.Values(ports), comparePorts)
	}
	for i, p := range ports {
		if i == 0 || p != ports[i-1] {
			key = append(append(append(key, 1, byte(p.Protocol)), p.Name...), '=', byte(p.Port>>8), byte(p.Port))
		}
	}
	return key
}

func comparePorts(a, b compile.NamedPort) int {
	return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), compareText(a.Name, b.Name), cmp.Compare(a.Port, b.Port))
}

// appendPlace appends which of the networks the addresses are in.
func (g *grouping) appendPlace(key []byte, addrs []netip.Addr) []byte {
	for _, a := range addrs {
		in := g.networks.of(a.Unmap())
		key = append(key, 2, byte(a.Unmap().BitLen()), byte(len(in)))
		for _, n := range in {
			key = binary.BigEndian.AppendUint32(key, uint32(n))
		}
	}
	return key
}

// keyOf identifies a kind of pods that could exist.
func (u *universe) keyOf(k *kind) string {
	g := grouping{universe: u}
	return string(g.appendKey(nil, k.like, k.role, k.labels))
}

// inBoth are the labels that both have; they are not changed.
func inBoth(a, b map[string]string) map[string]string {
	missing := func(k, v string) bool {
		w, ok := b[k]
		return !ok || v != w
	}
	for k, v := range a {
		if missing(k, v) {
			out := maps.Clone(a)
			maps.DeleteFunc(out, missing)
			return out
		}
	}
	return a
}
