package effect

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxSampleLabels bounds the combinations of labels that are tried for one selector.
const maxSampleLabels = 64

// sampleLabels returns label sets that a selector matches: one for each combination of the values that it names,
// without further labels. A selector that cannot match has none. It returns false if there are too many.
func sampleLabels(s *metav1.LabelSelector, without string) ([]map[string]string, bool) {
	wanted := labelRequirements(s)
	delete(wanted, without)
	out := []map[string]string{{}}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		values, absent := wanted[key].allowedValues()
		var next []map[string]string
		for _, w := range out {
			if absent {
				next = append(next, w)
			}
			for _, v := range values {
				with := maps.Clone(w)
				with[key] = v
				next = append(next, with)
			}
		}
		if len(next) > maxSampleLabels {
			return nil, false
		}
		out = next
	}
	return out, true
}

// requirement is what a selector requires of one label.
type requirement struct {
	in             [][]string
	notIn          []string
	exists, absent bool
}

func labelRequirements(s *metav1.LabelSelector) map[string]*requirement {
	wanted := map[string]*requirement{}
	requirement := func(key string) *requirement {
		if wanted[key] == nil {
			wanted[key] = &requirement{}
		}
		return wanted[key]
	}
	for k, v := range s.MatchLabels {
		requirement(k).in = append(requirement(k).in, []string{v})
	}
	for _, e := range s.MatchExpressions {
		d := requirement(e.Key)
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			d.in = append(d.in, e.Values)
		case metav1.LabelSelectorOpNotIn:
			d.notIn = append(d.notIn, e.Values...)
		case metav1.LabelSelectorOpExists:
			d.exists = true
		case metav1.LabelSelectorOpDoesNotExist:
			d.absent = true
		}
	}
	return wanted
}

// allowedValues returns values that satisfy the requirement, and whether absence does.
func (d *requirement) allowedValues() (values []string, absent bool) {
	switch {
	case d.absent:
		return nil, !d.exists && len(d.in) == 0
	case len(d.in) > 0:
		for _, v := range slices.Compact(slices.Sorted(slices.Values(d.in[0]))) {
			inAll := !slices.ContainsFunc(d.in, func(vs []string) bool { return !slices.Contains(vs, v) })
			if inAll && !slices.Contains(d.notIn, v) {
				values = append(values, v)
			}
		}
		return values, false
	case d.exists:
		return []string{unusedValue(d.notIn)}, false
	default:
		return nil, true
	}
}

// unusedValue returns a label value that is not taken.
func unusedValue(taken []string) string {
	v := "any"
	for slices.Contains(taken, v) {
		v += "x"
	}
	return v
}
