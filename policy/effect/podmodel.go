package effect

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// maxGroups is how many groups of pods are compared with each other; of more
// the effect is not computed.
const maxGroups = 4000

// state is one of the two states that are compared.
type state int

const (
	stateBefore state = iota
	stateAfter
)

var states = [...]state{stateBefore, stateAfter}

// podGroup is pods that no policy can tell apart, before and after the change.
type podGroup struct {
	namespace *namespace
	// kinds are what its pods are, before and after; nil when they do not exist then.
	kinds [2]*podKind
	// pods is how many there are; 0 of those that could exist.
	pods int
	// first is the name of the first pod.
	first string
	// claim is of the pod whose addresses the group stands at; without a pod of those that could exist.
	claim compile.Claim
}

// podKind is what policies can tell of a pod.
type podKind struct {
	role string
	// labels are those of one pod of the kind that policies mention, with the computed role.
	labels map[string]string
	// shared are those of labels that all pods of the group have.
	shared map[string]string
	// like is a pod of the kind.
	like *compile.Pod
}

// namespace is one of the cluster, or one that a selector would match.
type namespace struct {
	name string
	// hypothetical is true when its name means nothing.
	hypothetical    bool
	labels          [2]map[string]string
	effectiveLabels [2]labels.Set // as selectors see them, once asked for
}

// podModel is all groups, and those of pods that could exist and would matter.
type podModel struct {
	vocabulary   *labelVocabulary
	networks     prefixIndex // those that policies mention
	nodes        *compile.NodeNetworks
	roles        [2]*roles.Roles
	tierRoles    []tierRole
	namespaces   []*namespace // sorted by name
	byName       map[string]*namespace
	groups       []*podGroup
	hypothetical map[[2]string]*podGroup    // the imagined groups by kinds
	existing     map[*namespace][]*podGroup // with pods there are
	isFull       bool                       // as no more groups are wanted
	incomplete   []string
}

// newPodModel groups the pods of both snapshots. It returns the context's error where that ends before.
func newPodModel(ctx context.Context, snapshots [2]*compile.Snapshot, v *labelVocabulary, networks []netip.Prefix) (*podModel, error) {
	u := &podModel{vocabulary: v, byName: map[string]*namespace{}, hypothetical: map[[2]string]*podGroup{}, existing: map[*namespace][]*podGroup{}}
	u.nodes = compile.NewNodeNetworks(snapshots[stateAfter].Nodes)
	for i, n := range networks {
		u.networks.addPrefix(n, i)
	}
	for _, m := range states {
		u.roles[m] = roles.New(snapshots[m].TierRoles)
		for _, n := range snapshots[m].Namespaces {
			u.namespaceNamed(n.Name).labels[m] = n.Labels
		}
	}
	u.tierRoles = tierRoleCandidates(snapshots)
	if err := u.groupPods(ctx, snapshots); err != nil {
		return nil, err
	}
	u.namespaces = slices.SortedFunc(maps.Values(u.byName), func(a, b *namespace) int { return compareText(a.name, b.name) })
	return u, nil
}

func (u *podModel) namespaceNamed(name string) *namespace {
	n := u.byName[name]
	if n == nil {
		n = &namespace{name: name}
		u.byName[name] = n
	}
	return n
}

// intersectLabels leaves of the labels that all pods of the group have those that a pod of the same kinds has.
func (g *podGroup) intersectLabels(kinds [2]*podKind) {
	for _, m := range states {
		if g.kinds[m] != nil {
			g.kinds[m].shared = commonLabels(g.kinds[m].shared, kinds[m].labels)
		}
	}
}

func (u *podModel) kindOf(m state, p *compile.Pod) *podKind {
	match := u.roles[m].Of(p.Namespace, p.ServiceAccount, p.Labels)
	mentioned := u.vocabulary.mentionedLabels(match.Apply(p.Labels))
	return &podKind{role: match.Role, labels: mentioned, shared: mentioned, like: p}
}

// addHypothetical adds the groups of pods that could exist and that the selection would
// match: in each namespace that it matches, and in one that does not exist yet,
// of each role that pods can hold there.
func (u *podModel) addHypothetical(ctx context.Context, s selection, ports []compile.NamedPort) {
	labelSets, ok := sampleLabels(s.pods, roleLabel)
	if !ok {
		u.giveUp("%s %s matches too many combinations of labels", s.ref.Policy, s.ref.Rule)
		return
	}
	if s.byPods == nil {
		return
	}
	for _, n := range u.matchingNamespaces(s) {
		for _, role := range u.roleCandidates(n.name) {
			for _, l := range labelSets {
				if u.isFull || ctx.Err() != nil {
					return
				}
				u.addHypotheticalPod(n, role, l, s.byPods, ports)
			}
		}
	}
}

func (u *podModel) addHypotheticalPod(n *namespace, role roleCandidate, with map[string]string, s labels.Selector, ports []compile.NamedPort) {
	all := maps.Clone(role.labels)
	maps.Copy(all, with)
	pod := &compile.Pod{Namespace: n.name, ServiceAccount: role.serviceAccount, Labels: all, Ports: ports}
	kinds := [2]*podKind{u.kindOf(stateBefore, pod), u.kindOf(stateAfter, pod)}
	if !s.Matches(labels.Set(kinds[stateBefore].labels)) && !s.Matches(labels.Set(kinds[stateAfter].labels)) {
		return
	}
	keys := [2]string{u.keyOf(kinds[stateBefore]), u.keyOf(kinds[stateAfter])}
	if g := u.hypothetical[keys]; g != nil {
		g.intersectLabels(kinds)
		return
	}
	if u.hasEquivalentGroup(n, kinds, s) {
		return
	}
	if len(u.groups) >= maxGroups {
		u.isFull = true
		u.giveUp("there are more than %d kinds of pods%s", maxGroups, u.vocabulary.mostDistinctLabel(u.groups))
		return
	}
	g := &podGroup{namespace: n, kinds: kinds}
	u.hypothetical[keys] = g
	u.groups = append(u.groups, g)
}

// hasEquivalentGroup reports whether there are pods of the same role that are the same to the selector.
func (u *podModel) hasEquivalentGroup(n *namespace, kinds [2]*podKind, s labels.Selector) bool {
	alike := func(a, b *podKind) bool {
		return a.role == b.role && s.Matches(labels.Set(a.labels)) == s.Matches(labels.Set(b.labels))
	}
	return slices.ContainsFunc(u.existing[n], func(g *podGroup) bool {
		return g.kinds[stateAfter] != nil && alike(g.kinds[stateAfter], kinds[stateAfter]) && (g.kinds[stateBefore] == nil || alike(g.kinds[stateBefore], kinds[stateBefore]))
	})
}

func (u *podModel) giveUp(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	if !slices.Contains(u.incomplete, why) {
		u.incomplete = append(u.incomplete, why)
	}
}

// matchingNamespaces are the namespaces of a selection, at either moment, and those that
// do not exist yet.
func (u *podModel) matchingNamespaces(s selection) []*namespace {
	if s.namespaces == nil {
		return []*namespace{u.namespaceNamed(s.namespace)}
	}
	if s.byNamespaces == nil {
		return nil
	}
	var out []*namespace
	for _, n := range u.namespaces {
		if n.matchesInEitherState(s.byNamespaces) {
			out = append(out, n)
		}
	}
	labelSets, ok := sampleLabels(s.namespaces, "")
	if !ok {
		u.giveUp("%s %s matches too many combinations of namespace labels", s.ref.Policy, s.ref.Rule)
	}
	for _, l := range labelSets {
		if n := u.hypotheticalNamespace(l, s.byNamespaces); n != nil && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func (n *namespace) matchesInEitherState(s labels.Selector) bool {
	for _, m := range states {
		if s.Matches(n.labelsIn(m)) {
			return true
		}
	}
	return false
}

// labelsIn are the labels as selectors see them.
func (n *namespace) labelsIn(m state) labels.Set {
	if n.effectiveLabels[m] == nil {
		n.effectiveLabels[m] = withNameLabel(n.name, n.labels[m])
	}
	return n.effectiveLabels[m]
}

func withNameLabel(name string, l map[string]string) labels.Set {
	if l[corev1.LabelMetadataName] == name {
		return l
	}
	out := make(labels.Set, len(l)+1)
	maps.Copy(out, l)
	out[corev1.LabelMetadataName] = name
	return out
}

// hypotheticalNamespace is a namespace with the labels that does not exist; nil if it
// would be one that does, or if the selector would not match it.
func (u *podModel) hypotheticalNamespace(with map[string]string, s labels.Selector) *namespace {
	name, named := with[corev1.LabelMetadataName]
	if named && u.byName[name] != nil {
		return nil
	}
	if !named {
		name = "tierwall.any." + labelsKey(with)
	}
	n := u.byName[name]
	if n == nil {
		n = &namespace{name: name, hypothetical: !named, labels: [2]map[string]string{with, with}}
		if !n.matchesInEitherState(s) {
			return nil
		}
		u.byName[name] = n
	}
	return n
}

func labelsKey(l map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, k+"="+l[k])
	}
	return strings.Join(parts, ",")
}
