package generate

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

var (
	podKeys = map[string][]string{
		"app":              {"web", "api", "db", ""},
		"track":            {"stable", "canary"},
		"nowhere":          {"x"},
		v1alpha1.RoleLabel: roles,
	}
	podKeyOrder   = []string{"app", "app", "track", "nowhere", v1alpha1.RoleLabel}
	namespaceKeys = map[string][]string{
		"team":                        {"a", "b", ""},
		"env":                         {"live", "dev"},
		"kubernetes.io/metadata.name": namespaces,
	}
	namespaceKeyOrder = []string{"team", "env", "kubernetes.io/metadata.name"}
	nodeKeys          = map[string][]string{"pool": {"a", "b"}}
)

func (g *generator) podSelector() metav1.LabelSelector {
	return g.selector(podKeyOrder, podKeys)
}

func (g *generator) namespaceSelector() metav1.LabelSelector {
	return g.selector(namespaceKeyOrder, namespaceKeys)
}

func (g *generator) namespacedPod() *policyv1alpha2.NamespacedPod {
	return &policyv1alpha2.NamespacedPod{NamespaceSelector: g.namespaceSelector(), PodSelector: g.podSelector()}
}

func (g *generator) selector(keys []string, values map[string][]string) metav1.LabelSelector {
	var s metav1.LabelSelector
	if g.chance(3) {
		return s
	}
	if g.chance(2) {
		key := pick(g.Rand, keys...)
		s.MatchLabels = map[string]string{key: pick(g.Rand, values[key]...)}
	}
	for range g.IntN(3) {
		s.MatchExpressions = append(s.MatchExpressions, g.expression(keys, values))
	}
	return s
}

func (g *generator) expression(keys []string, values map[string][]string) metav1.LabelSelectorRequirement {
	key := pick(g.Rand, keys...)
	e := metav1.LabelSelectorRequirement{Key: key, Operator: pick(g.Rand,
		metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}
	if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
		for range 1 + g.IntN(2) {
			e.Values = append(e.Values, pick(g.Rand, values[key]...))
		}
	}
	if g.broken() {
		e.Operator = pick[metav1.LabelSelectorOperator](g.Rand, "in", "Gt", "")
	}
	if g.broken() { // In without values, Exists with some
		e.Values = pick(g.Rand, nil, []string{"x"}, []string{"not a label value"})
	}
	return e
}
