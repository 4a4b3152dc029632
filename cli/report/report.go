// Package report writes what a check found: for people, as JSON, as SARIF for
// code scanning and as JUnit XML for test reports.
package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/cli/check"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/internal/unenforced"
)

// Report is what a check found.
type Report struct {
	check.Result
	// Reading is what was read, and what was not.
	manifest.Reading
	// Unenforced are the policies, among the manifests and on the cluster, that other
	// engines enforce.
	Unenforced []unenforced.Count
	// Version is that of the program.
	Version string
}

// Formats are the names of the formats, the first of which is for people.
var Formats = []string{"human", "json", "sarif", "junit"}

// Write writes the report in a format.
func (r Report) Write(out io.Writer, format string, style Style) error {
	switch format {
	case "json":
		return r.json(out)
	case "sarif":
		return r.sarif(out)
	case "junit":
		return r.junit(out)
	default:
		return r.human(out, style)
	}
}

// unread are how many objects there are of kinds that policy does not depend on, by kind.
func (r Report) unread() map[string]int {
	out := map[string]int{}
	for _, o := range r.Objects {
		if o.Value == nil {
			out[o.Kind]++
		}
	}
	return out
}

// counted is such as "3 Service, 1 ConfigMap", the most first.
func counted(kinds map[string]int) string {
	var parts []string
	for _, kind := range slices.SortedFunc(maps.Keys(kinds), func(a, b string) int {
		return cmp.Or(kinds[b]-kinds[a], strings.Compare(a, b))
	}) {
		parts = append(parts, fmt.Sprintf("%d %s", kinds[kind], kind))
	}
	return strings.Join(parts, ", ")
}
