package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/cli/check"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/report"
	"github.com/tierwall/tierwall/internal/version"
	"github.com/tierwall/tierwall/rego"
)

// checkFlags are those of check.
type checkFlags struct {
	source
	input
	guardrails []string
	format     string
	user       rego.UserInfo
}

func newCheck() *cobra.Command {
	f := &checkFlags{}
	c := &cobra.Command{
		Use:   "check -f PATH...",
		Short: "Judge manifests by the guardrails, as if all of them were applied",
		Example: `  # a folder, applied to an empty cluster
  tierwall check -f manifests/
  # a kustomization
  tierwall check -k overlays/prod
  # what Helm renders, applied to the live cluster
  helm template shop charts/shop | tierwall check --cluster -f -
  # for code scanning
  tierwall check -f manifests/ -o sarif > tierwall.sarif`,
		Args: byFlag("-f"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), f.timeout)
			defer cancel()
			return f.run(ctx, c)
		},
	}
	fs := c.Flags()
	f.input.addTo(fs)
	fs.StringSliceVar(&f.guardrails, "guardrails", nil, "a `PATH` of Guardrail objects or Rego to judge by, and not by those of the chart or the cluster; may be repeated")
	fs.StringVarP(&f.format, "output", "o", report.Formats[0], "human, json, sarif or junit")
	fs.StringVar(&f.user.Username, "as", "", "the `USER` who would apply the manifests, for guardrails that ask")
	fs.StringSliceVar(&f.user.Groups, "as-group", nil, "a `GROUP` of that user; may be repeated")
	f.source.addTo(fs)
	return c
}

func (f *checkFlags) run(ctx context.Context, c *cobra.Command) error {
	if err := knownFormat(f.format, report.Formats...); err != nil {
		return err
	}
	before, err := f.exists(ctx, c.ErrOrStderr())
	if err != nil {
		return err
	}
	guardrails, errs, err := f.inForce(c, before)
	if err != nil {
		return err
	}
	reading, err := f.read(c, before.namespace)
	if err != nil {
		return err
	}
	reading.Errors = append(errs, reading.Errors...)
	r := report.Report{Reading: reading, Unenforced: addCounts(reading.Unenforced(), before.unenforced), Version: version.Version}
	if len(r.Errors) == 0 {
		checker := &check.Checker{Before: before.state, Defaults: before.defaults, Guardrails: guardrails, User: f.user}
		if r.Result, err = checker.Check(ctx, reading.Objects); err != nil {
			return err
		}
		r.Warnings = append(r.Warnings, r.Notes...)
	}
	if err := r.Write(c.OutOrStdout(), f.format, report.StyleFor(c.OutOrStdout())); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	switch {
	case len(r.Errors) > 0:
		return errTold
	case r.Denials() > 0:
		return errViolated
	}
	return nil
}

// inForce are the Guardrails that judge: the caller's own, those of the live
// cluster, or those that the chart would install.
func (f *checkFlags) inForce(c *cobra.Command, before existing) ([]*v1alpha1.Guardrail, []manifest.Error, error) {
	switch {
	case len(f.guardrails) > 0:
		guardrails, errs := check.ReadGuardrails(c.InOrStdin(), f.guardrails...)
		return guardrails, errs, nil
	case before.live:
		return before.state.Guardrails(), nil, nil
	}
	guardrails, err := check.ChartGuardrails()
	return guardrails, nil, err
}
