package chart

import (
	"strings"
	"testing"
)

// TestExemptNamespaceHasNoDefaultActionBesides: the programs heed the exemption
// alone, so a Deny that is written down would close nothing.
func TestExemptNamespaceHasNoDefaultActionBesides(t *testing.T) {
	tests := []struct {
		name   string
		set    []string
		refuse string
	}{
		{"named by the values", []string{"exemptNamespaces={monitoring}", "namespaceDefaultActions.monitoring=Deny"}, "monitoring"},
		{"allowed twice", []string{"exemptNamespaces={monitoring}", "namespaceDefaultActions.monitoring=Allow"}, "monitoring"},
		{"always exempt", []string{"namespaceDefaultActions.kube-system=Deny"}, "kube-system"},
		{"the release's own", []string{"namespaceDefaultActions." + namespace + "=Deny"}, namespace},
		{"two namespaces", []string{"exemptNamespaces={monitoring}", "namespaceDefaultActions.sandbox=Allow"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := []string{"template", release, chartDir, "--namespace", namespace, "--kube-version", kubernetes}
			for _, set := range test.set {
				args = append(args, "--set", set)
			}
			_, err := helm(t, args...)
			if test.refuse == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.refuse+" is an exempt namespace") {
				t.Errorf("got %v, want it to say that %s is exempt", err, test.refuse)
			}
		})
	}
}
