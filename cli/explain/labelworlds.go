package explain

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy/compile"
)

// maxWorlds is how many combinations of unknown labels are tried.
const maxWorlds = 256

// labelWorld is a world, and the label that was chosen for it last.
type labelWorld struct {
	*world
	fact *Unknown
}

// choice is a label of a pod, and the values that it may have; "" with absent is that it is not there.
type choice struct {
	pod     *compile.Pod
	label   state.OpenLabel
	options []relabel
}

// worlds are the programs for all values that the labels of the two may have; nil if there are too many.
func (x *explainer) worlds(from, to Member, q query) []labelWorld {
	choices := x.choices(from)
	if !isSelf(from, to) {
		choices = append(choices, x.choices(to)...)
	}
	n := 1
	for _, c := range choices {
		if n *= len(c.options); n > maxWorlds {
			return nil
		}
	}
	if n == 1 && len(choices) == 0 {
		return []labelWorld{{world: x.all}}
	}
	pair := x.pairSnapshot(from, to)
	var out []labelWorld
	for i := range n {
		rest, next := i, *pair
		next.Pods = nil
		pods := map[string]*compile.Pod{}
		for _, p := range pair.Pods {
			copied := *p
			pods[p.Namespace+"/"+p.Name] = &copied
			next.Pods = append(next.Pods, &copied)
		}
		for _, c := range choices {
			r := c.options[rest%len(c.options)]
			rest /= len(c.options)
			p := pods[c.pod.Namespace+"/"+c.pod.Name]
			p.Labels = r.apply(p.Labels)
		}
		program, _ := compile.Compile(&next, "")
		out = append(out, labelWorld{world: newWorld(program)})
	}
	x.blame(out, choices, from, to, q)
	return out
}

// blame notes for each world the label that makes a difference to the verdict, by comparing it with those
// that differ from it in one label.
func (x *explainer) blame(worlds []labelWorld, choices []choice, from, to Member, q query) {
	verdicts := make([]string, len(worlds))
	for i, w := range worlds {
		egress, ingress := x.directions(w.world, from, to, q)
		e, eSure := permits(egress)
		g, gSure := permits(ingress)
		verdicts[i] = sign(e, eSure) + sign(g, gSure)
	}
	stride := 1
	for _, c := range choices {
		n := len(c.options)
		u := labelUnknown(c.pod.Namespace+"/"+c.pod.Name, c.label)
		for i := range worlds {
			base := i - (i/stride%n)*stride
			for j := range n {
				if verdicts[base+j*stride] != verdicts[i] && worlds[i].fact == nil {
					worlds[i].fact = &u
				}
			}
		}
		stride *= n
	}
}

func sign(passes, sure bool) string {
	switch {
	case !sure:
		return "?"
	case passes:
		return "+"
	}
	return "-"
}

// choices are the labels of the member that cannot be known and that some selector asks for.
func (x *explainer) choices(m Member) []choice {
	if m.pod == nil || m.kind == hostMember {
		return nil
	}
	var out []choice
	for _, l := range x.facts.open[m.pod.Namespace+"/"+m.pod.Name] {
		if options := x.options(l); len(options) > 0 {
			out = append(out, choice{m.pod, l, options})
		}
	}
	return out
}

// options are the values that the label may have, of those that selectors can tell apart; nil if none asks for it.
func (x *explainer) options(l state.OpenLabel) []relabel {
	asked := false
	var values []string
	for _, s := range x.selectors {
		if v, ok := s.Selector.MatchLabels[l.Key]; ok {
			asked = true
			values = append(values, v)
		}
		for _, e := range s.Selector.MatchExpressions {
			if e.Key == l.Key {
				asked = true
				if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
					values = append(values, e.Values...)
				}
			}
		}
	}
	if !asked {
		return nil
	}
	slices.Sort(values)
	var out []relabel
	for _, v := range slices.Compact(values) {
		if l.Accepts(v) {
			out = append(out, relabel{key: l.Key, value: v})
		}
	}
	out = append(out, relabel{key: l.Key, value: l.Prefix + "00000000"}) // a value that no selector asks for
	if !l.Always {
		out = append(out, relabel{key: l.Key, absent: true})
	}
	return out
}

// pairSnapshot is the two pods alone, with all that can concern them.
func (x *explainer) pairSnapshot(from, to Member) *compile.Snapshot {
	s := x.facts.snapshot
	out := &compile.Snapshot{Nodes: s.Nodes, ClusterNetworkPolicies: s.ClusterNetworkPolicies, TierRoles: s.TierRoles, Defaults: s.Defaults}
	concerned := map[string]bool{}
	for _, m := range []Member{from, to} {
		if m.pod != nil && m.kind == podMember && !slices.Contains(out.Pods, m.pod) {
			out.Pods = append(out.Pods, m.pod)
			concerned[m.pod.Namespace] = true
		}
	}
	for _, n := range s.Namespaces {
		if concerned[n.Name] {
			out.Namespaces = append(out.Namespaces, n)
		}
	}
	for _, np := range s.NetworkPolicies {
		if concerned[np.Namespace] {
			out.NetworkPolicies = append(out.NetworkPolicies, np)
		}
	}
	return out
}
