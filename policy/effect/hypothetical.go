package effect

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy/compile"
)

// addHypotheticalPods adds the hypothetical pods of the relevant policies, and of the peers of policies that these
// hide.
func addHypotheticalPods(ctx context.Context, model *podModel, policies, hidden []*terms) {
	var ports []compile.NamedPort
	for _, t := range slices.Concat(policies, hidden) {
		for _, p := range t.ports {
			ports = append(ports, compile.NamedPort{Name: p.name, Protocol: p.protocol, Port: unknownPort})
		}
	}
	for _, t := range policies {
		model.addHypothetical(ctx, t.subject, ports)
		for _, p := range t.peers {
			model.addHypothetical(ctx, p, ports)
		}
	}
	for _, t := range hidden {
		for _, p := range t.peers {
			model.addHypothetical(ctx, p, ports)
		}
	}
}

// addHypothetical adds groups of hypothetical pods that the selection matches. They are in each namespace that it
// covers and in one that does not exist yet, with each role that pods can have there.
func (model *podModel) addHypothetical(ctx context.Context, s selection, ports []compile.NamedPort) {
	labelSets, ok := sampleLabels(s.pods, roleLabel)
	if !ok {
		model.giveUp("%s %s matches too many combinations of labels", s.ref.Policy, s.ref.Rule)
		return
	}
	if s.byPods == nil {
		return
	}
	for _, n := range model.matchingNamespaces(s) {
		for _, role := range roleCandidates(n.name, model.tierRoles, model.roles) {
			for _, l := range labelSets {
				if model.isFull || ctx.Err() != nil {
					return
				}
				model.addHypotheticalPod(n, role, l, s.byPods, ports)
			}
		}
	}
}

func (model *podModel) addHypotheticalPod(n *namespace, role roleCandidate, with map[string]string, s labels.Selector, ports []compile.NamedPort) {
	all := maps.Clone(role.labels)
	maps.Copy(all, with)
	pod := &compile.Pod{Namespace: n.name, ServiceAccount: role.serviceAccount, Labels: all, Ports: ports}
	kinds := [2]*podKind{model.kindOf(stateBefore, pod), model.kindOf(stateAfter, pod)}
	if !s.Matches(labels.Set(kinds[stateBefore].labels)) && !s.Matches(labels.Set(kinds[stateAfter].labels)) {
		return
	}
	keys := [2]string{model.keyOf(kinds[stateBefore]), model.keyOf(kinds[stateAfter])}
	if g := model.hypothetical[keys]; g != nil {
		g.intersectLabels(kinds)
		return
	}
	if model.hasEquivalentGroup(n, kinds, s) {
		return
	}
	if len(model.groups) >= maxGroups {
		model.isFull = true
		model.giveUp("there are more than %d kinds of pods%s", maxGroups, model.vocabulary.mostDistinctLabel(model.groups))
		return
	}
	g := &podGroup{namespace: n, kinds: kinds}
	model.hypothetical[keys] = g
	model.groups = append(model.groups, g)
}

// hasEquivalentGroup reports whether there are existing pods of the same role that the selector cannot tell from
// these.
func (model *podModel) hasEquivalentGroup(n *namespace, kinds [2]*podKind, s labels.Selector) bool {
	alike := func(a, b *podKind) bool {
		return a.role == b.role && s.Matches(labels.Set(a.labels)) == s.Matches(labels.Set(b.labels))
	}
	return slices.ContainsFunc(model.existing[n], func(g *podGroup) bool {
		return g.kinds[stateAfter] != nil && alike(g.kinds[stateAfter], kinds[stateAfter]) && (g.kinds[stateBefore] == nil || alike(g.kinds[stateBefore], kinds[stateBefore]))
	})
}

// matchingNamespaces returns the namespaces that a selection covers in either state, with hypothetical ones.
func (model *podModel) matchingNamespaces(s selection) []*namespace {
	if s.namespaces == nil {
		return []*namespace{model.namespaceNamed(s.namespace)}
	}
	if s.byNamespaces == nil {
		return nil
	}
	var out []*namespace
	for _, n := range model.namespaces {
		if n.matchesInEitherState(s.byNamespaces) {
			out = append(out, n)
		}
	}
	labelSets, ok := sampleLabels(s.namespaces, "")
	if !ok {
		model.giveUp("%s %s matches too many combinations of namespace labels", s.ref.Policy, s.ref.Rule)
	}
	for _, l := range labelSets {
		if n := model.hypotheticalNamespace(l, s.byNamespaces); n != nil && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// hypotheticalNamespace returns a namespace with the labels that does not exist. It is nil if a namespace of this
// name exists, or if the selector does not match.
func (model *podModel) hypotheticalNamespace(with map[string]string, s labels.Selector) *namespace {
	name, named := with[corev1.LabelMetadataName]
	if named && model.byName[name] != nil {
		return nil
	}
	if !named {
		name = "tierwall.any." + labelsKey(with)
	}
	n := model.byName[name]
	if n == nil {
		n = &namespace{name: name, hypothetical: !named, labels: [2]map[string]string{with, with}}
		if !n.matchesInEitherState(s) {
			return nil
		}
		model.byName[name] = n
	}
	return n
}
