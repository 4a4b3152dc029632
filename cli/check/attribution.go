package check

import (
	"maps"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/policy/roles"
)

// parts divides the effect of a step among its policies. Every row is some policy's: that
// of the rules that allow it, or of those that select who no longer is. Where there is
// none in the step, as when a policy no longer denies, the row is everybody's.
type parts struct {
	step
	ids      map[string]bool
	roles    *roles.Roles
	subjects map[*manifest.Object]subject
	lost     []bool // which of the removed rows are everybody's
}

func newParts(s step) parts {
	p := parts{step: s, ids: map[string]bool{}, roles: roles.New(s.after.TierRoles), subjects: map[*manifest.Object]subject{}}
	for _, o := range s.policies {
		p.ids[o.ID()], p.subjects[o] = true, subjectOf(o)
	}
	for _, r := range s.effect.Removed {
		p.lost = append(p.lost, !slices.ContainsFunc(s.policies, func(o *manifest.Object) bool { return p.isClosedBy(o, r) }))
	}
	return p
}

// partFor is the effect with the rows that are about one policy.
func (p parts) partFor(o *manifest.Object) effect.Effect {
	e := p.effect
	if len(p.policies) == 1 {
		return e
	}
	id, subject := o.ID(), p.subjects[o]
	e.Added = filter(e.Added, func(r effect.Row) bool { return p.isOpenedBy(id, r) })
	n := -1
	e.Removed = filter(e.Removed, func(r effect.Row) bool {
		n++
		return p.lost[n] || p.isClosedBy(o, r)
	})
	e.NewlyIsolated = filter(e.NewlyIsolated, func(i effect.Isolation) bool { return subject.maySelect(i.Subject) })
	e.NoLongerIsolated = filter(e.NoLongerIsolated, func(i effect.Isolation) bool { return subject.maySelectNamespace(i.Subject) })
	e.Roles = rolesOf(e.Added)
	e.Lint = p.lintFor(e.Lint, id, subject)
	return e
}

func (p parts) isOpenedBy(id string, r effect.Row) bool {
	return namesPolicy(r.Via, id) || !slices.ContainsFunc(r.Via, func(v effect.Ref) bool { return p.ids[v.Policy] })
}

func (p parts) isClosedBy(o *manifest.Object, r effect.Row) bool {
	return namesPolicy(r.Via, o.ID()) || p.subjects[o].maySelect(ownPeer(r))
}

func namesPolicy(refs []effect.Ref, id string) bool {
	return slices.ContainsFunc(refs, func(r effect.Ref) bool { return r.Policy == id })
}

// ownPeer is the one whose policies a row comes from.
func ownPeer(r effect.Row) effect.Peer {
	if r.Direction == effect.Egress {
		return r.From
	}
	return r.To
}

func filter[T any](all []T, wanted func(T) bool) []T {
	out := []T{}
	for _, v := range all {
		if wanted(v) {
			out = append(out, v)
		}
	}
	return out
}

// rolesOf sums rows up by tier role, as package effect does.
func rolesOf(rows []effect.Row) effect.Roles {
	sets := map[[2]string]map[string]bool{}
	for _, r := range rows {
		pair := [2]string{r.From.Role, r.To.Role}
		if pair[0] == "" || pair[1] == "" || r.Direction == effect.Egress && r.Blocked {
			continue
		}
		if sets[pair] == nil {
			sets[pair] = map[string]bool{}
		}
		for _, port := range r.Ports {
			sets[pair][port] = true
		}
	}
	out := effect.Roles{Added: map[string]map[string][]string{}}
	for pair, ports := range sets {
		if out.Added[pair[0]] == nil {
			out.Added[pair[0]] = map[string][]string{}
		}
		out.Added[pair[0]][pair[1]] = slices.Sorted(maps.Keys(ports))
	}
	return out
}

func (p parts) lintFor(l effect.Lint, id string, s subject) effect.Lint {
	own := func(refs []effect.Ref) []effect.Ref {
		return filter(refs, func(r effect.Ref) bool { return r.Policy == id })
	}
	l.DeadPeers, l.NamedPortsUnresolved = own(l.DeadPeers), own(l.NamedPortsUnresolved)
	l.NearMatches = filter(l.NearMatches, func(m effect.NearMatch) bool { return m.Policy == id })
	l.ShadowedBy, l.RedundantWith, l.PriorityTies = own(l.ShadowedBy), own(l.RedundantWith), own(l.PriorityTies)
	l.SelectsNothing = l.SelectsNothing && !slices.ContainsFunc(p.after.Pods, func(pod *compile.Pod) bool {
		return !pod.HostNetwork && !pod.Ended && s.selectsPod(p.after, pod, p.roles)
	})
	return l
}

// subject is what a policy selects. What cannot be understood selects everything.
type subject struct {
	namespace        string
	namespaces, pods labels.Selector
}

func subjectOf(o *manifest.Object) subject {
	if spec, ok := specOf(o); ok {
		selectors, _ := spec.Subject()
		if s, ok := selectors.First(); ok {
			return newSubject(s)
		}
	}
	return subject{namespaces: labels.Everything(), pods: labels.Everything()}
}

// specOf returns the spec of an object if it is a policy.
func specOf(o *manifest.Object) (compile.Spec, bool) {
	switch p := o.Value.(type) {
	case *networkingv1.NetworkPolicy:
		return compile.NetworkPolicySpec(p), true
	case *policyv1alpha2.ClusterNetworkPolicy:
		return compile.ClusterNetworkPolicySpec(p), true
	}
	return compile.Spec{}, false
}

func newSubject(s compile.PodSelector) subject {
	out := subject{pods: labels.Everything()}
	if s.Pods != nil {
		out.pods = parseSelector(s.Pods)
	}
	if s.Namespaces == nil {
		out.namespace = s.Namespace
	} else {
		out.namespaces = parseSelector(s.Namespaces)
	}
	return out
}

func parseSelector(s *metav1.LabelSelector) labels.Selector {
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Everything()
	}
	return out
}

// maySelect reports whether pods of the peer may be selected. Labels of a peer that stands
// for several kinds of pods are those that all of them have.
func (s subject) maySelect(p effect.Peer) bool {
	return p.Kind != effect.CIDR && s.maySelectNamespace(p) && s.pods.Matches(labels.Set(p.Labels))
}

func (s subject) maySelectNamespace(p effect.Peer) bool {
	if s.namespace != "" {
		return s.namespace == p.Namespace
	}
	return s.namespaces.Matches(namespaceSet(p.Namespace, p.NamespaceLabels))
}

func (s subject) selectsPod(snapshot *compile.Snapshot, pod *compile.Pod, r *roles.Roles) bool {
	if s.namespace != "" && s.namespace != pod.Namespace {
		return false
	}
	if s.namespace == "" {
		var known map[string]string
		for _, n := range snapshot.Namespaces {
			if n.Name == pod.Namespace {
				known = n.Labels
			}
		}
		if !s.namespaces.Matches(namespaceSet(pod.Namespace, known)) {
			return false
		}
	}
	return s.pods.Matches(labels.Set(r.Of(pod.Namespace, pod.ServiceAccount, pod.Labels).Apply(pod.Labels)))
}

// namespaceSet is a namespace's labels with its name, which the API server keeps there.
func namespaceSet(name string, known map[string]string) labels.Set {
	out := labels.Set{}
	maps.Copy(out, known)
	if name != "" {
		out["kubernetes.io/metadata.name"] = name
	}
	return out
}
