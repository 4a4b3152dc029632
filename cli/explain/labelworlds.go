package explain

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
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

// choice is a label of a pod or a namespace that is not known, and what it may be.
type choice struct {
	pod       *compile.Pod // nil where the label is the namespace's
	namespace string
	fact      Unknown
	options   []relabel
}

// worlds are the programs for all values that the labels of the two may have; nil if there are too many.
func (x *explainer) worlds(from, to Member, q query) []labelWorld {
	pair := x.pairSnapshot(from, to)
	choices := x.allChoices(pair, from, to)
	n := 1
	for _, c := range choices {
		if n *= len(c.options); n > maxWorlds {
			return nil
		}
	}
	if n == 1 && len(choices) == 0 {
		return []labelWorld{{world: x.all}}
	}
	var out []labelWorld
	for i := range n {
		rest, next := i, *pair
		next.Pods, next.Namespaces = nil, slices.Clone(pair.Namespaces)
		pods := map[string]*compile.Pod{}
		for _, p := range pair.Pods {
			copied := *p
			pods[p.Namespace+"/"+p.Name] = &copied
			next.Pods = append(next.Pods, &copied)
		}
		for _, c := range choices {
			r := c.options[rest%len(c.options)]
			rest /= len(c.options)
			if c.pod == nil {
				relabelNamespace(&next, c.namespace, r)
				continue
			}
			p := pods[c.pod.Namespace+"/"+c.pod.Name]
			p.Labels = r.apply(p.Labels)
		}
		program, _ := compile.Compile(&next, "")
		out = append(out, labelWorld{world: newWorld(program)})
	}
	x.attributeLabels(out, choices, from, to, q)
	return out
}

// attributeLabels notes for each world the label that makes a difference to the verdict, by comparing it with those
// that differ from it in one label.
func (x *explainer) attributeLabels(worlds []labelWorld, choices []choice, from, to Member, q query) {
	verdicts := make([]string, len(worlds))
	for i, w := range worlds {
		egress, ingress := x.directions(w.world, from, to, q)
		e, eSure := agreedVerdict(egress)
		g, gSure := agreedVerdict(ingress)
		verdicts[i] = verdictSign(e, eSure) + verdictSign(g, gSure)
	}
	stride := 1
	for _, c := range choices {
		n := len(c.options)
		u := c.fact
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

func verdictSign(passes, sure bool) string {
	switch {
	case !sure:
		return "?"
	case passes:
		return "+"
	}
	return "-"
}

// allChoices are those of both, as far as policies that concern them ask for them.
func (x *explainer) allChoices(pair *compile.Snapshot, from, to Member) []choice {
	out := append(x.choices(from), x.namespaceChoices(pair, from)...)
	if !isSelf(from, to) {
		out = append(out, x.choices(to)...)
	}
	if from.pod == nil || to.pod == nil || from.pod.Namespace != to.pod.Namespace {
		out = append(out, x.namespaceChoices(pair, to)...)
	}
	return out
}

// tooMany are the facts that would tell the labels of two, which may be in too many combinations to be tried.
func (x *explainer) tooMany(from, to Member) (out []Unknown) {
	for _, c := range x.allChoices(x.pairSnapshot(from, to), from, to) {
		out = append(out, c.fact)
	}
	return append(out, manyUnknown())
}

// choices are the labels of the member that cannot be known and that some selector asks for.
func (x *explainer) choices(m Member) []choice {
	if m.pod == nil || m.kind == hostMember {
		return nil
	}
	var out []choice
	for _, l := range x.facts.open[m.pod.Namespace+"/"+m.pod.Name] {
		if options := x.options(l); len(options) > 0 {
			pod := m.pod.Namespace + "/" + m.pod.Name
			out = append(out, choice{pod: m.pod, fact: labelUnknown(pod, l), options: options})
		}
	}
	return out
}

// namespaceChoices are the labels of the member's namespace that some selector asks for, where there is no Namespace
// that tells them. All namespaces have their name as a label (KEP-2161).
func (x *explainer) namespaceChoices(pair *compile.Snapshot, m Member) []choice {
	if m.pod == nil || m.kind == hostMember || x.facts.knowsNamespace(m.pod.Namespace) {
		return nil
	}
	values := map[string][]string{}
	for _, s := range selectorsIn(pair) {
		if !s.namespaces {
			continue
		}
		for key, value := range s.selector.MatchLabels {
			values[key] = append(values[key], value)
		}
		for _, e := range s.selector.MatchExpressions {
			values[e.Key] = append(values[e.Key], e.Values...)
		}
	}
	delete(values, corev1.LabelMetadataName)
	var out []choice
	for _, key := range slices.Sorted(maps.Keys(values)) {
		c := choice{namespace: m.pod.Namespace, fact: namespaceUnknown(m.pod.Namespace, key)}
		c.options = []relabel{{key: key, absent: true}, {key: key, value: "00000000"}} // a value that no selector asks for
		for _, value := range slices.Compact(slices.Sorted(slices.Values(values[key]))) {
			c.options = append(c.options, relabel{key: key, value: value})
		}
		out = append(out, c)
	}
	return out
}

// relabelNamespace gives a namespace of the snapshot another label.
func relabelNamespace(s *compile.Snapshot, name string, r relabel) {
	for i, n := range s.Namespaces {
		if n.Name == name {
			s.Namespaces[i] = &compile.Namespace{Name: name, Labels: r.apply(n.Labels)}
			return
		}
	}
	s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: name, Labels: r.apply(nil)})
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
