package effect

import (
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy/compile"
)

// podGroup is pods that no policy can tell apart, in either state.
type podGroup struct {
	namespace *namespace
	// kinds describe the pods in each state; nil if they do not exist there.
	kinds [2]*podKind
	// pods is the number of pods; 0 for hypothetical ones.
	pods int
	// first is the name of the first pod.
	first string
	// claim is the strongest claim to addresses among the pods. Hypothetical pods have none.
	claim compile.Claim
}

// intersectLabels keeps, of the shared labels, those that a further pod of the group has too.
func (g *podGroup) intersectLabels(kinds [2]*podKind) {
	for _, m := range bothStates {
		if g.kinds[m] != nil {
			g.kinds[m].shared = commonLabels(g.kinds[m].shared, kinds[m].labels)
		}
	}
}

// podKind is what policies can tell of a pod.
type podKind struct {
	role string
	// labels are the labels of one pod that policies mention, with the computed role.
	labels map[string]string
	// shared are the labels that all pods of the group have.
	shared map[string]string
	// like is a pod of this kind.
	like *compile.Pod
}

// namespace is an existing namespace, or a hypothetical one that a selector would match.
type namespace struct {
	name string
	// hypothetical is true if the name of the namespace is arbitrary.
	hypothetical    bool
	labels          [2]map[string]string
	effectiveLabels [2]labels.Set // with the name label; cached
}

func (n *namespace) matchesInEitherState(s labels.Selector) bool {
	for _, m := range bothStates {
		if s.Matches(n.labelsIn(m)) {
			return true
		}
	}
	return false
}

// labelsIn returns the labels as selectors see them.
func (n *namespace) labelsIn(m clusterState) labels.Set {
	if n.effectiveLabels[m] == nil {
		n.effectiveLabels[m] = withNameLabel(n.name, n.labels[m])
	}
	return n.effectiveLabels[m]
}

// mayBeIn reports whether a selection covers a namespace in either state.
func (s selection) mayBeIn(n *namespace) bool {
	return s.coversNamespace(n.name, n.labelsIn(stateBefore)) || s.coversNamespace(n.name, n.labelsIn(stateAfter))
}

func (n namedPort) isPortOf(g *podGroup) bool {
	for _, p := range g.kinds[stateAfter].like.Ports {
		if p.Name == n.name && p.Protocol == n.protocol {
			return true
		}
	}
	return false
}
