package policy

import (
	"fmt"
	"slices"
)

// Defaults are the default actions: what happens to a flow that no tier
// decided, by the namespace of the endpoint. They are an administrator's
// settings and name namespaces by name, never by a label that an owner could set.
type Defaults struct {
	// Action is the cluster's: Deny, Allow for what stock Kubernetes does, or Audit to let
	// pass and report what Deny would drop.
	Action Verdict
	// Exempt are the namespaces whose default action is Allow in any case.
	Exempt []string
	// Namespaces override the cluster's action; Exempt goes first.
	Namespaces map[string]Verdict
}

// For is the default action of a namespace.
func (d Defaults) For(namespace string) Verdict {
	if slices.Contains(d.Exempt, namespace) {
		return Allow
	}
	if v, ok := d.Namespaces[namespace]; ok {
		return v
	}
	return d.Action
}

// ParseAction reads a default action.
func ParseAction(s string) (Verdict, error) {
	switch s {
	case "Deny":
		return Deny, nil
	case "Allow":
		return Allow, nil
	case "Audit":
		return Audit, nil
	default:
		return Deny, fmt.Errorf("default action %q: want Deny, Allow or Audit", s)
	}
}

// Audits reports whether the default action of some namespace is Audit.
func (d Defaults) Audits() bool {
	if d.Action == Audit {
		return true
	}
	for namespace := range d.Namespaces {
		if d.For(namespace) == Audit {
			return true
		}
	}
	return false
}
