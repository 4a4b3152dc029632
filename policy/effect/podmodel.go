package effect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// maxGroups bounds the groups of pods. The effect of a change that needs more is not complete.
const maxGroups = 4000

// podModel holds the groups of existing pods, and of hypothetical pods that are relevant to a change.
type podModel struct {
	vocabulary   *labelVocabulary
	networks     prefixIndex // mentioned by policies
	nodes        *compile.NodeNetworks
	roles        [2]*roles.Roles
	tierRoles    []tierRole
	namespaces   []*namespace // sorted by name
	byName       map[string]*namespace
	groups       []*podGroup
	hypothetical map[[2]string]*podGroup    // groups of hypothetical pods, by the keys of their kinds
	existing     map[*namespace][]*podGroup // groups of existing pods
	isFull       bool                       // maxGroups is reached
	incomplete   []string
	labelNames   []string // scratch space of appendKey
}

func (model *podModel) namespaceNamed(name string) *namespace {
	n := model.byName[name]
	if n == nil {
		n = &namespace{name: name}
		model.byName[name] = n
	}
	return n
}

func (model *podModel) kindOf(m clusterState, p *compile.Pod) *podKind {
	match := model.roles[m].Of(p.Namespace, p.ServiceAccount, p.Labels)
	mentioned := model.vocabulary.mentionedLabels(match.Apply(p.Labels))
	return &podKind{role: match.Role, labels: mentioned, shared: mentioned, like: p}
}

// keyOf returns the key of a kind of hypothetical pods.
func (model *podModel) keyOf(k *podKind) string {
	return string(model.appendKey(nil, k.like, k.role, k.labels))
}

// appendKey appends what selectors can tell of a pod with the role and the labels.
func (model *podModel) appendKey(key []byte, p *compile.Pod, role string, labels map[string]string) []byte {
	model.labelNames = model.labelNames[:0]
	for name := range labels {
		if model.vocabulary.values[name] != nil {
			model.labelNames = append(model.labelNames, name)
		}
	}
	slices.Sort(model.labelNames)
	key = append(append(append(key, p.Namespace...), 0), role...)
	for _, name := range model.labelNames {
		key = append(append(append(append(key, 0), name...), '='), model.vocabulary.distinctValue(name, labels[name])...)
	}
	return appendPorts(key, p.Ports)
}

// appendPorts appends the named ports of a pod, in sorted order.
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

func (model *podModel) giveUp(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	if !slices.Contains(model.incomplete, why) {
		model.incomplete = append(model.incomplete, why)
	}
}

// mostDistinctLabel names the label that makes most kinds of pods, and the policy that mentions most of its values.
// It is empty if no label does.
func (v *labelVocabulary) mostDistinctLabel(groups []*podGroup) string {
	found := map[string]map[string]bool{}
	for _, g := range groups {
		if g.kinds[stateAfter] == nil {
			continue
		}
		for key, value := range g.kinds[stateAfter].labels {
			if found[key] == nil {
				found[key] = map[string]bool{}
			}
			found[key][v.distinctValue(key, value)] = true
		}
	}
	key := largestName(found, func(values map[string]bool) int { return len(values) })
	if len(found[key]) < 2 {
		return ""
	}
	policy := largestName(v.mentions[key], func(n int) int { return n })
	return fmt.Sprintf("; the label %s alone has %d values to tell apart, most of which %s mentions", key, len(found[key]), policy)
}

// largestName returns the name of the largest value, and the first of several.
func largestName[T any](all map[string]T, size func(T) int) string {
	names := slices.Sorted(maps.Keys(all))
	if len(names) == 0 {
		return ""
	}
	return slices.MaxFunc(names, func(a, b string) int { return size(all[a]) - size(all[b]) })
}

// matchingGroups returns the groups that a selection matches after the change.
func (model *podModel) matchingGroups(s selection) []*podGroup {
	if s.byPods == nil {
		return nil
	}
	var out []*podGroup
	for _, g := range model.groups {
		if k := g.kinds[stateAfter]; k != nil && s.coversNamespace(g.namespace.name, g.namespace.labelsIn(stateAfter)) && s.byPods.Matches(labels.Set(k.labels)) {
			out = append(out, g)
		}
	}
	return out
}

// selectedGroups returns the groups of existing pods that a selection matches after the change.
func (model *podModel) selectedGroups(s selection) []*podGroup {
	return slices.DeleteFunc(model.matchingGroups(s), func(g *podGroup) bool { return g.pods == 0 })
}

// subjectGroups returns the groups that a policy applies to after the change, with those of hypothetical pods.
func (model *podModel) subjectGroups(t *terms) map[*podGroup]bool {
	out := map[*podGroup]bool{}
	for _, g := range model.matchingGroups(t.subject) {
		out[g] = true
	}
	return out
}

// portDestinations returns the groups in which the port name of a rule is resolved.
func (model *podModel) portDestinations(t *terms, n namedPort) []*podGroup {
	switch {
	case directionOf[n.direction] == Ingress:
		return model.selectedGroups(t.subject)
	case len(n.peers) == 0:
		return model.selectedGroups(newSelection(Ref{}, everything, "", everything))
	}
	var out []*podGroup
	for _, p := range n.peers {
		out = append(out, model.selectedGroups(p)...)
	}
	return out
}
