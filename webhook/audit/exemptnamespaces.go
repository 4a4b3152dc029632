package audit

import (
	"context"
	"slices"

	"github.com/tierwall/tierwall/policy/compile"
)

// missingExemptNamespaces returns the exempt namespaces that do not exist, sorted. Whoever creates one gets a namespace
// without default deny.
func missingExemptNamespaces(s *compile.Snapshot) []string {
	there := map[string]bool{}
	for _, ns := range s.Namespaces {
		there[ns.Name] = true
	}
	var missing []string
	for _, name := range s.Defaults.Exempt {
		if !there[name] {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

// reportExempt counts the exempt namespaces that do not exist, and logs them when they change.
func (a *Auditor) reportExempt(ctx context.Context, s *compile.Snapshot) {
	missing := missingExemptNamespaces(s)
	exemptMissing.Set(float64(len(missing)))
	if len(missing) > 0 && !slices.Equal(missing, a.missingExempt) {
		a.Log.WarnContext(ctx, "exempt namespaces do not exist; whoever may create one gets a namespace without default deny", "namespaces", missing)
	}
	a.missingExempt = missing
}
