package compile

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// selector is a label selector in canonical form. Its requirements are sorted
// and unique, so that a selector written in another way has the same text. The
// zero value matches everything.
type selector struct {
	requirements []requirement
	text         string // as kubectl writes selectors
}

type requirement struct {
	labels.Requirement
	key    string
	op     selection.Operator
	values []string // sorted and unique
	text   string
}

// matches is what labels.Requirement says, and quicker where there is one value.
func (r *requirement) matches(l labels.Set) bool {
	if r.op == selection.In && len(r.values) == 1 {
		v, has := l[r.key]
		return has && v == r.values[0]
	}
	return r.Matches(l)
}

// anchors are labels of which whatever the requirement matches has exactly one. There are
// none when it can match what lacks the key.
func (r *requirement) anchors() []label {
	switch r.op {
	case selection.Exists:
		return []label{{key: r.key, any: true}}
	case selection.In:
		out := make([]label, len(r.values))
		for i, v := range r.values {
			out[i] = label{key: r.key, value: v}
		}
		return out
	default:
		return nil
	}
}

// label is a label's key and value, or with any its key with whatever value.
type label struct {
	key, value string
	any        bool
}

// operators are the ones that the API has for label selectors.
var operators = map[metav1.LabelSelectorOperator]selection.Operator{
	metav1.LabelSelectorOpIn:           selection.In,
	metav1.LabelSelectorOpNotIn:        selection.NotIn,
	metav1.LabelSelectorOpExists:       selection.Exists,
	metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
}

// parseSelector reads the selector at the field. It is false when some of it cannot
// be understood; nothing may then be concluded from the rest.
func parseSelector(s *metav1.LabelSelector, field string, r *reporter) (selector, bool) {
	var reqs []requirement
	ok := true
	add := func(field, key string, op selection.Operator, values []string) {
		req, err := newRequirement(key, op, values)
		if err != nil {
			r.report(field, "%v", err)
			ok = false
			return
		}
		reqs = append(reqs, req)
	}
	for _, key := range sortedKeys(s.MatchLabels) {
		add(field+"/matchLabels/"+escape(key), key, selection.In, []string{s.MatchLabels[key]})
	}
	for i, e := range s.MatchExpressions {
		at := item(field+"/matchExpressions", i)
		op, known := operators[e.Operator]
		if !known {
			r.report(at+"/operator", "unknown operator %q: want In, NotIn, Exists or DoesNotExist", e.Operator)
			ok = false
			continue
		}
		add(at, e.Key, op, e.Values)
	}
	if !ok {
		return selector{}, false
	}
	return canonical(reqs), true
}

// nameIs is the selector of the namespace with the name.
func nameIs(namespace string) selector {
	values := []string{namespace}
	req := requirement{key: nameLabel, op: selection.In, values: values, text: nameLabel + "=" + namespace}
	return canonical([]requirement{req})
}

func newRequirement(key string, op selection.Operator, values []string) (requirement, error) {
	values = slices.Compact(slices.Sorted(slices.Values(values)))
	req, err := labels.NewRequirement(key, op, values)
	if err != nil {
		return requirement{}, err
	}
	return requirement{Requirement: *req, key: key, op: op, values: values, text: requirementText(key, op, values)}, nil
}

func requirementText(key string, op selection.Operator, values []string) string {
	switch {
	case op == selection.Exists:
		return key
	case op == selection.DoesNotExist:
		return "!" + key
	case op == selection.In && len(values) == 1:
		return key + "=" + values[0]
	case op == selection.NotIn && len(values) == 1:
		return key + "!=" + values[0]
	default:
		return key + " " + string(op) + " (" + strings.Join(values, ",") + ")"
	}
}

func canonical(reqs []requirement) selector {
	slices.SortFunc(reqs, func(a, b requirement) int { return strings.Compare(a.text, b.text) })
	reqs = slices.CompactFunc(reqs, func(a, b requirement) bool { return a.text == b.text })
	texts := make([]string, len(reqs))
	for i, req := range reqs {
		texts[i] = req.text
	}
	return selector{requirements: reqs, text: strings.Join(texts, ",")}
}

// size is the number of requirements and of their values.
func (s selector) size() int {
	size := len(s.requirements)
	for i := range s.requirements {
		size += len(s.requirements[i].values)
	}
	return size
}

// everything reports whether the selector has no requirement.
func (s selector) everything() bool { return len(s.requirements) == 0 }

func (s selector) matches(l labels.Set) bool {
	for i := range s.requirements {
		if !s.requirements[i].matches(l) {
			return false
		}
	}
	return true
}

// name is the namespace that the selector fixes by its name label.
func (s selector) name() (string, bool) {
	for _, req := range s.requirements {
		if req.key == nameLabel && req.op == selection.In && len(req.values) == 1 {
			return req.values[0], true
		}
	}
	return "", false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// escape makes a key a part of a JSON pointer (RFC 6901, section 3).
func escape(key string) string { return pointerEscapes.Replace(key) }

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")
