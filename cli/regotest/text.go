package regotest

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/tierwall/tierwall/cli/report"
)

// Text writes the result for people: what failed, what is not covered, and, if all
// is wanted, every test.
func (r Result) Text(out io.Writer, style report.Style, threshold float64, all bool) error {
	w := bufio.NewWriter(out)
	for _, t := range r.Tests {
		switch {
		case t.Outcome == "pass" && all:
			fmt.Fprintf(w, "%s   %s  %s\n", style.Good("pass"), t.Name, style.Faint(t.Duration.String()))
		case t.Outcome == "skip":
			fmt.Fprintf(w, "%s   %s  %s\n", style.Notice("skip"), t.Name, style.Faint(fmt.Sprintf("%s:%d", t.File, t.Line)))
		case t.Outcome != "pass":
			fmt.Fprintf(w, "%s  %s  %s\n", style.Bad(fmt.Sprintf("%-5s", t.Outcome)), t.Name, style.Faint(fmt.Sprintf("%s:%d", t.File, t.Line)))
			if t.Message != "" {
				fmt.Fprintf(w, "       %s\n", t.Message)
			}
		}
		if t.Output != "" && (all || t.Outcome != "pass") {
			fmt.Fprintf(w, "       %s\n", strings.ReplaceAll(strings.TrimSpace(t.Output), "\n", "\n       "))
		}
	}
	for _, c := range r.Coverage {
		if len(c.NotCovered) > 0 {
			fmt.Fprintf(w, "%s  %s: %.1f %%, lines %s\n", style.Notice("not covered"), c.File, c.Percent, strings.Join(c.NotCovered, ", "))
		}
	}
	verdict := style.Good(fmt.Sprintf("%d tests passed", r.Passed))
	if r.Failed > 0 {
		verdict = style.Bad(fmt.Sprintf("%d of %d tests failed", r.Failed, len(r.Tests)-r.Skipped))
	}
	covered := fmt.Sprintf("%.1f %% covered", r.Percent)
	if r.Percent < threshold {
		covered = style.Bad(fmt.Sprintf("%s, less than %g %%", covered, threshold))
	}
	fmt.Fprintf(w, "%s, %s\n", verdict, covered)
	return w.Flush()
}
