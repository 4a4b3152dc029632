// Package flags holds the command-line flags that the webhook and the enforcer share.
package flags

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tierwall/tierwall/policy"
)

// Defaults are the flags of the default actions.
type Defaults struct {
	action     string
	exempt     []string
	namespaces map[string]string
}

// AddTo adds the flags to a flag set.
func (d *Defaults) AddTo(fs *pflag.FlagSet) {
	fs.StringVar(&d.action, "default-action", "Deny", "what happens to a flow that no policy decides: Deny, Allow, or Audit, which lets pass and has the node agents report what Deny would drop")
	fs.StringSliceVar(&d.exempt, "exempt-namespaces", []string{"kube-system"}, "namespaces whose default action is Allow in any case")
	fs.StringToStringVar(&d.namespaces, "namespace-default-action", nil, "default action of one namespace, as NAMESPACE=Deny, NAMESPACE=Allow or NAMESPACE=Audit; may be repeated")
}

// Parse reads the flags' values. The error names the flag that is wrong.
func (d *Defaults) Parse() (policy.Defaults, error) {
	action, err := policy.ParseAction(d.action)
	if err != nil {
		return policy.Defaults{}, fmt.Errorf("--default-action: %w", err)
	}
	out := policy.Defaults{Action: action, Namespaces: map[string]policy.Verdict{}}
	for _, ns := range d.exempt {
		if ns = strings.TrimSpace(ns); ns != "" {
			out.Exempt = append(out.Exempt, ns)
		}
	}
	for ns, s := range d.namespaces {
		if out.Namespaces[ns], err = policy.ParseAction(s); err != nil {
			return policy.Defaults{}, fmt.Errorf("--namespace-default-action %s: %w", ns, err)
		}
	}
	return out, nil
}
