package audit

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

func namespaces(exempt []string, there ...string) *compile.Snapshot {
	s := &compile.Snapshot{Defaults: policy.Defaults{Exempt: exempt}}
	for _, name := range there {
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: name})
	}
	return s
}

func TestExemptNamespacesThatDoNotExist(t *testing.T) {
	for _, c := range []struct {
		exempt, there, want []string
	}{
		{nil, []string{"a"}, nil},
		{[]string{"kube-system", "monitoring"}, []string{"monitoring", "kube-system", "a"}, nil},
		{[]string{"kube-system", "monitoring", "backup"}, []string{"kube-system", "monitoring2"}, []string{"backup", "monitoring"}},
		{[]string{"backup", "backup"}, nil, []string{"backup"}},
	} {
		if got := missingExemptNamespaces(namespaces(c.exempt, c.there...)); !slices.Equal(got, c.want) {
			t.Errorf("%v of %v: %v, want %v", c.exempt, c.there, got, c.want)
		}
	}
}

func TestMissingExemptNamespacesAreLoggedOncePerChange(t *testing.T) {
	var log bytes.Buffer
	a := &Auditor{Log: slog.New(slog.NewTextHandler(&log, nil))}
	exempt := []string{"monitoring", "backup"}
	for _, step := range []struct {
		there []string
		lines int
	}{{[]string{"monitoring"}, 1}, {[]string{"monitoring"}, 1}, {nil, 2}, {exempt, 2}, {[]string{"backup"}, 3}} {
		a.reportExempt(t.Context(), namespaces(exempt, step.there...))
		if got := strings.Count(log.String(), "exempt namespaces do not exist"); got != step.lines {
			t.Errorf("with %v: %d lines, want %d", step.there, got, step.lines)
		}
	}
}
