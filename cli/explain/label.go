package explain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// maxTried is how many changes of a label are tried.
const maxTried = 100

// labelMiss is a near miss by one label.
type labelMiss struct {
	NearMiss
	rule policy.RuleID
}

// relabel is one label that could be otherwise: of one of the two pods, or of its namespace.
type relabel struct {
	side      int // 0 is the source
	namespace bool
	key       string
	value     string // that it would have
	absent    bool   // it would not have the label
}

// labels are the rules that would allow the direction if one label were otherwise.
// Each is tried: the two pods are compiled with the label as it would be. Where a later tier or the
// default action decides then, it is no near miss: it would be a way around the policy.
func (w *whatIf) labels() []labelMiss {
	small := newSmall(w.explainer, w.from, w.to)
	var out []labelMiss
	for i, r := range small.relabels() {
		if i == maxTried {
			break
		}
		program, _ := compile.Compile(small.with(r), "")
		tried := newWorld(program)
		why, ok := w.allowed(tried, w.query)
		if !ok || why.Tier == "" || why.Tier == policy.DefaultTier || tierOrder[why.Tier] > tierOrder[w.tier] {
			continue
		}
		out = append(out, labelMiss{rule: why.Rule, NearMiss: NearMiss{
			But: "label", Policy: why.Rule.Object(), Field: why.Rule.Field, Says: small.says(r)}})
	}
	return out
}

// tierOrder is the order of evaluation.
var tierOrder = map[policy.TierName]int{policy.AdminTier: 0, policy.NetworkPolicyTier: 1, policy.BaselineTier: 2, policy.DefaultTier: 3}

// pairOnly is the two sides alone, with the policies that can concern them.
type pairOnly struct {
	snapshot *compile.Snapshot
	unknown  map[string]bool // namespaces whose labels are not known
	pods     [2]*compile.Pod // nil of a side that is no pod
	labels   [2]labels.Set   // as selectors see them
	roles    [2]string
}

func newSmall(x *explainer, from, to Member) *pairOnly {
	out := &pairOnly{snapshot: x.pairSnapshot(from, to), unknown: map[string]bool{}}
	tierRoles := roles.New(x.facts.snapshot.TierRoles)
	out.snapshot.TierRoles, out.snapshot.Pods = nil, nil
	for i, m := range []Member{from, to} {
		if m.pod == nil || m.kind != podMember || i == 1 && isSelf(from, to) {
			continue
		}
		p := *m.pod
		role := tierRoles.Of(p.Namespace, p.ServiceAccount, p.Labels)
		p.ServiceAccount, p.Terminating = fmt.Sprintf("side-%d", i), false
		out.pods[i], out.labels[i], out.roles[i] = &p, role.Apply(p.Labels), role.Role
		if out.namespace(p.Namespace) == nil {
			out.snapshot.Namespaces = append(out.snapshot.Namespaces, &compile.Namespace{Name: p.Namespace})
			out.unknown[p.Namespace] = !x.facts.Complete
		}
	}
	return out
}

func (s *pairOnly) namespace(name string) *compile.Namespace {
	for _, n := range s.snapshot.Namespaces {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// with is the snapshot of the two with one label otherwise. A role cannot be
// given by a label, so that each pod has a TierRole of its own.
func (s *pairOnly) with(r relabel) *compile.Snapshot {
	out := *s.snapshot
	for i, p := range s.pods {
		if p == nil {
			continue
		}
		pod, role := *p, s.roles[i]
		if i == r.side && !r.namespace {
			pod.Labels = r.apply(pod.Labels)
			if r.key == v1alpha1.RoleLabel {
				role = r.value
			}
		}
		if role != "" {
			out.TierRoles = append(out.TierRoles, &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: pod.ServiceAccount},
				Spec: v1alpha1.TierRoleSpec{Role: role, Namespaces: []string{pod.Namespace}, ServiceAccounts: []string{pod.ServiceAccount}}})
		}
		out.Pods = append(out.Pods, &pod)
	}
	if r.namespace {
		out.Namespaces = nil
		for _, n := range s.snapshot.Namespaces {
			if n.Name == s.pods[r.side].Namespace {
				n = &compile.Namespace{Name: n.Name, Labels: r.apply(n.Labels)}
			}
			out.Namespaces = append(out.Namespaces, n)
		}
	}
	return &out
}

func (r relabel) apply(before map[string]string) map[string]string {
	out := maps.Clone(before)
	if out == nil {
		out = map[string]string{}
	}
	out[r.key] = r.value
	if r.absent {
		delete(out, r.key)
	}
	return out
}

// relabels are the labels by which alone some selector does not match one of the sides.
func (s *pairOnly) relabels() []relabel {
	found := map[relabel]bool{}
	for _, selector := range selectorsIn(s.snapshot) {
		for i, p := range s.pods {
			if p == nil {
				continue
			}
			if selector.namespaces {
				seen := labels.Set(maps.Clone(s.namespace(p.Namespace).Labels))
				if seen == nil {
					seen = labels.Set{}
				}
				seen["kubernetes.io/metadata.name"] = p.Namespace
				selector.miss(seen, relabel{side: i, namespace: true}, found)
			} else {
				selector.miss(s.labels[i], relabel{side: i}, found)
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b relabel) int {
		return cmp.Or(cmp.Compare(a.side, b.side), cmp.Compare(a.key, b.key), cmp.Compare(a.value, b.value))
	})
}

// miss notes the label of the one requirement that is not met, if there is just one.
func (s selectorOf) miss(seen labels.Set, r relabel, found map[relabel]bool) {
	parsed, err := metav1.LabelSelectorAsSelector(s.selector)
	if err != nil {
		return
	}
	requirements, _ := parsed.Requirements()
	var unmet []labels.Requirement
	for _, req := range requirements {
		if !req.Matches(seen) {
			unmet = append(unmet, req)
		}
	}
	if len(unmet) != 1 || unmet[0].Key() == "kubernetes.io/metadata.name" {
		return
	}
	r.key = unmet[0].Key()
	for value := range unmet[0].Values() {
		if r.value = value; unmet[0].Matches(labels.Set{r.key: value}) {
			found[r] = true
		}
	}
	r.value, r.absent = "", true
	if unmet[0].Matches(labels.Set{}) {
		found[r] = true
	}
}

// selectorOf is a selector of pods or of namespaces.
type selectorOf struct {
	selector   *metav1.LabelSelector
	namespaces bool
}

// selectorsIn are those of all policies.
func selectorsIn(s *compile.Snapshot) []selectorOf {
	var out []selectorOf
	add := func(namespaces, pods *metav1.LabelSelector) {
		if namespaces != nil {
			out = append(out, selectorOf{namespaces, true})
		}
		if pods != nil {
			out = append(out, selectorOf{pods, false})
		}
	}
	for spec := range s.Specs() {
		for selector := range spec.PodSelectors() {
			add(selector.Namespaces, selector.Pods)
		}
	}
	return out
}

// says is the change in words.
func (s *pairOnly) says(r relabel) string {
	p := s.pods[r.side]
	who, seen := p.Namespace+"/"+p.Name, map[string]string(s.labels[r.side])
	if r.namespace {
		who, seen = "namespace "+p.Namespace, s.namespace(p.Namespace).Labels
		if s.unknown[p.Namespace] {
			if r.absent {
				return fmt.Sprintf("would allow it if %s did not have the label %s; no Namespace says whether it has", who, r.key)
			}
			return fmt.Sprintf("would allow it if %s had the label %s=%s; no Namespace says whether it has", who, r.key, r.value)
		}
	}
	value, has := seen[r.key]
	is := "does not have the label"
	if has {
		is = fmt.Sprintf("has %s", value)
	}
	if r.key == v1alpha1.RoleLabel && !r.namespace {
		if is = "has no role"; has {
			is = "has role " + value
		}
		if r.absent {
			return fmt.Sprintf("would allow it if %s had no role; it %s", who, is)
		}
		return fmt.Sprintf("would allow it if %s had the role %s; it %s", who, r.value, is)
	}
	if r.absent {
		return fmt.Sprintf("would allow it if %s did not have the label %s; it %s", who, r.key, is)
	}
	return fmt.Sprintf("would allow it if %s had the label %s=%s; it %s", who, r.key, r.value, is)
}
