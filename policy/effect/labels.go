package effect

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

const roleLabel = v1alpha1.RoleLabel

func withNameLabel(name string, l map[string]string) labels.Set {
	if l[corev1.LabelMetadataName] == name {
		return l
	}
	out := make(labels.Set, len(l)+1)
	maps.Copy(out, l)
	out[corev1.LabelMetadataName] = name
	return out
}

func labelsKey(l map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, k+"="+l[k])
	}
	return strings.Join(parts, ",")
}

// commonLabels returns the labels that both have, and modifies neither.
func commonLabels(a, b map[string]string) map[string]string {
	missing := func(k, v string) bool {
		w, ok := b[k]
		return !ok || v != w
	}
	for k, v := range a {
		if missing(k, v) {
			out := maps.Clone(a)
			maps.DeleteFunc(out, missing)
			return out
		}
	}
	return a
}
