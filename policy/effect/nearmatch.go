package effect

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// maxNearMatchTrials bounds the comparisons of pods with selectors.
const maxNearMatchTrials = 1_000_000

// labelledPod is a pod with its labels and those of its namespace as selectors see them.
type labelledPod struct {
	*compile.Pod
	labels, namespace labels.Set
}

// addNearMatches adds near matches of the selectors that match no pod of the whole cluster.
func (e *Effect) addNearMatches(policies []*terms, after *compile.Snapshot) {
	if !e.Lint.SelectsNothing && len(e.Lint.DeadPeers) == 0 {
		return
	}
	pods := labelledPods(after)
	trials := 0
	add := func(s selection) {
		if trials += len(pods); trials <= maxNearMatchTrials {
			e.Lint.NearMatches = append(e.Lint.NearMatches, nearMatches(s, pods)...)
		}
	}
	dead := map[Ref]bool{}
	for _, ref := range e.Lint.DeadPeers {
		dead[ref] = true
	}
	for _, t := range policies {
		if e.Lint.SelectsNothing {
			add(t.subject)
		}
		for _, p := range t.peers {
			if dead[p.ref] {
				add(p)
			}
		}
	}
}

// labelledPods returns the pods of a snapshot, sorted by namespace and name.
func labelledPods(s *compile.Snapshot) []labelledPod {
	known := roles.New(s.TierRoles)
	namespaces := map[string]labels.Set{}
	for _, n := range s.Namespaces {
		namespaces[n.Name] = withNameLabel(n.Name, n.Labels)
	}
	out := make([]labelledPod, 0, len(s.Pods))
	for _, p := range s.Pods {
		if namespaces[p.Namespace] == nil {
			namespaces[p.Namespace] = withNameLabel(p.Namespace, nil)
		}
		match := known.Of(p.Namespace, p.ServiceAccount, p.Labels)
		out = append(out, labelledPod{p, match.Apply(p.Labels), namespaces[p.Namespace]})
	}
	slices.SortFunc(out, func(a, b labelledPod) int {
		return cmp.Or(compareText(a.Namespace, b.Namespace), compareText(a.Name, b.Name))
	})
	return out
}

// nearMatches returns the near matches of a selection, or none if it matches a pod.
func nearMatches(s selection, pods []labelledPod) []NearMatch {
	if s.byPods == nil {
		return nil
	}
	var out []NearMatch
	for _, p := range pods {
		if !s.byPods.Matches(p.labels) {
			continue
		}
		reason, near := s.missReason(p)
		if !near {
			continue
		}
		if reason == "" {
			return nil
		}
		i := slices.IndexFunc(out, func(m NearMatch) bool { return m.Reason == reason })
		if i < 0 {
			i, out = len(out), append(out, NearMatch{Policy: s.ref.Policy, Rule: s.ref.Rule, Reason: reason, Pod: p.Namespace + "/" + p.Name})
		}
		out[i].Pods++
	}
	slices.SortFunc(out, func(a, b NearMatch) int { return compareText(string(a.Reason), string(b.Reason)) })
	return out
}

// missReason returns why a pod with matching labels is not selected, or nothing if it is. Near is false if there are
// several reasons.
func (s selection) missReason(p labelledPod) (reason Reason, near bool) {
	affected := !p.Ended && !p.HostNetwork
	switch covered := s.coversNamespace(p.Namespace, p.namespace); {
	case covered && affected:
		return "", true
	case covered && p.Ended:
		return HasEnded, true
	case covered:
		return OnHostNetwork, true
	default: // an empty selector would match any pod elsewhere
		return InOtherNamespace, affected && !s.byPods.Empty()
	}
}
