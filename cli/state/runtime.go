package state

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy/compile"
)

// roleValues are what databases that elect a primary call its replicas.
var roleValues = []string{"primary", "master", "leader", "replica", "standby", "standby_leader", "standby-leader", "sync_standby",
	"secondary", "slave", "follower", "arbiter", "hidden", "witness", "voter"}

// operatorKeys are the labels by which operators tell which replica is the primary, and whether it serves.
var operatorKeys = map[string]string{
	"spilo-role": "the Postgres operator", "cnpg.io/instanceRole": "CloudNativePG", "cnpg.io/podRole": "CloudNativePG",
	"postgres-operator.crunchydata.com/role": "the Crunchy Postgres operator", "mysql.oracle.com/cluster-role": "the MySQL operator",
	"redisfailovers-role": "the Redis operator", "kubeblocks.io/role": "KubeBlocks", "vault-active": "Vault", "vault-sealed": "Vault",
	"vault-initialized": "Vault", "vault-perf-standby": "Vault", "vault-version": "Vault", "openbao-active": "OpenBao",
	"openbao-sealed": "OpenBao", "openbao-initialized": "OpenBao",
}

// injectedPrefixes are the labels that a service mesh or the API server adds to pods of every kind.
var injectedPrefixes = map[string]string{
	"security.istio.io/": "Istio", "service.istio.io/": "Istio", "sidecar.istio.io/": "Istio", "linkerd.io/": "Linkerd",
	"topology.kubernetes.io/": "the API server, from the node", "rollouts-pod-template-hash": "Argo Rollouts",
}

// mention is a requirement of a selector for pods, and the selector.
type mention struct {
	key    string
	values []string
	// whole is the selector that the requirement is of; where it asks in one namespace, that one.
	whole     *metav1.LabelSelector
	namespace string
	ofService bool
}

// runtimeLabels are the labels that something may add to the stand-in when it runs, of those that selectors ask for.
func runtimeLabels(kind string, p *compile.Pod, mentions []mention, others []*compile.Pod) []OpenLabel {
	found := map[string]*OpenLabel{}
	for _, m := range mentions {
		if _, has := p.Labels[m.key]; has {
			continue
		}
		setter, values := m.setter(kind, p, others)
		if setter == "" {
			continue
		}
		l := found[m.key]
		if l == nil {
			l = &OpenLabel{Key: m.key, Setter: setter}
			found[m.key] = l
		}
		l.Values, l.Asked = append(l.Values, values...), append(l.Asked, m.asked(values)...)
	}
	var out []OpenLabel
	for _, l := range found {
		l.Values = slices.Compact(slices.Sorted(slices.Values(l.Values)))
		l.Asked = slices.Compact(slices.Sorted(slices.Values(l.Asked)))
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b OpenLabel) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// asked are the values that a pod with the label would have: one of those that the requirement
// names and that it can have, or any.
func (m mention) asked(possible []string) []string {
	if len(possible) > 0 {
		return possible
	}
	if len(m.values) > 0 {
		return m.values
	}
	return []string{"any"}
}

// setter is who may add the label that the requirement asks for to the pod, and with which values (none is any).
func (m mention) setter(kind string, p *compile.Pod, others []*compile.Pod) (string, []string) {
	for prefix, who := range injectedPrefixes {
		if strings.HasPrefix(m.key, prefix) {
			return who, nil
		}
	}
	roles := slices.DeleteFunc(slices.Clone(m.values), func(v string) bool { return !slices.Contains(roleValues, strings.ToLower(v)) })
	if kind == "StatefulSet" {
		if who := operatorKeys[m.key]; who != "" {
			return who, nil
		}
		if m.key == "role" && len(roles) > 0 {
			return "the operator that elects the primary", roles
		}
	}
	if (kind == "StatefulSet" || m.ofService || len(roles) > 0) && m.isMeantFor(p, others) {
		return "whatever is to make the selector match", m.values
	}
	return "", nil
}

// isMeantFor reports whether the selector seems to be about the pod as it will run: it asks for a label that
// the pod has, for nothing that the pod has otherwise, and no pod that is there matches it.
func (m mention) isMeantFor(p *compile.Pod, others []*compile.Pod) bool {
	if m.namespace != "" && m.namespace != p.Namespace || m.whole == nil {
		return false
	}
	selector, err := metav1.LabelSelectorAsSelector(m.whole)
	if err != nil {
		return false
	}
	requirements, _ := selector.Requirements()
	shared := false
	for _, r := range requirements {
		_, has := p.Labels[r.Key()]
		switch {
		case has && !r.Matches(labels.Set(p.Labels)):
			return false
		case has:
			shared = true
		}
	}
	return shared && !slices.ContainsFunc(others, func(o *compile.Pod) bool {
		return (m.namespace == "" || o.Namespace == m.namespace) && selector.Matches(labels.Set(o.Labels))
	})
}

// mentionsIn are the requirements of all selectors for pods in policies, TierRoles and Services.
func (s State) mentionsIn(snapshot *compile.Snapshot) []mention {
	var out []mention
	add := func(l *metav1.LabelSelector, namespace string, ofService bool) {
		if l == nil {
			return
		}
		for _, key := range sortedKeys(l.MatchLabels) {
			out = append(out, mention{key, []string{l.MatchLabels[key]}, l, namespace, ofService})
		}
		for _, e := range l.MatchExpressions {
			out = append(out, mention{e.Key, e.Values, l, namespace, ofService})
		}
	}
	for _, x := range PodSelectors(snapshot) {
		add(x.Selector, x.Namespace, false)
	}
	for _, svc := range s.Services() {
		if len(svc.Spec.Selector) > 0 {
			add(&metav1.LabelSelector{MatchLabels: svc.Spec.Selector}, svc.Namespace, true)
		}
	}
	return out
}
