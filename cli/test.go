package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tierwall/tierwall/cli/regotest"
	"github.com/tierwall/tierwall/cli/report"
)

// testFlags are those of test.
type testFlags struct {
	threshold float64
	all       bool
	format    string
	timeout   time.Duration
}

func newTest() *cobra.Command {
	f := &testFlags{}
	c := &cobra.Command{
		Use:   "test PATH...",
		Short: "Run the Rego tests of guardrails, with coverage",
		Long: `Run the Rego tests of guardrails, with coverage.

Rego is compiled strictly, with the built-ins that guardrails may use and with
package tierwall.lib; the tests run with stock "opa test" as well.

Exit status: 0 all passed; 1 a test failed, or too little is covered; 2 the
command line is wrong or the Rego does not compile.`,
		Example: "  tierwall test --threshold 100 guardrails/",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, paths []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), f.timeout)
			defer cancel()
			return f.run(ctx, c, paths)
		},
	}
	fs := c.Flags()
	fs.Float64Var(&f.threshold, "threshold", 0, "how much must be covered, in `PERCENT`")
	fs.BoolVarP(&f.all, "verbose", "v", false, "tell of tests that pass too")
	fs.StringVarP(&f.format, "output", "o", "human", "human or json")
	fs.DurationVar(&f.timeout, "timeout", 5*time.Minute, "how long all may take")
	return c
}

func (f *testFlags) run(ctx context.Context, c *cobra.Command, paths []string) error {
	if err := knownFormat(f.format, "human", "json"); err != nil {
		return err
	}
	if f.threshold < 0 || f.threshold > 100 {
		return fmt.Errorf("--threshold %g: want 0 to 100", f.threshold)
	}
	result, err := regotest.Run(ctx, paths...)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if f.format == "json" {
		err = report.WriteJSON(out, result)
	} else {
		err = result.Text(out, report.StyleFor(out), f.threshold, f.all)
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if result.Failed > 0 || result.Percent < f.threshold {
		return errViolated
	}
	return nil
}
