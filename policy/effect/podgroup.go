package effect

import (
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy/compile"
)

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

// intersectLabels leaves of the labels that all pods of the group have those that a pod of the same kinds has.
func (g *podGroup) intersectLabels(kinds [2]*podKind) {
	for _, m := range states {
		if g.kinds[m] != nil {
			g.kinds[m].shared = commonLabels(g.kinds[m].shared, kinds[m].labels)
		}
	}
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

// mayBeIn reports whether the selection is about pods of a namespace, before or after the change.
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
