package admit

import (
	"strings"
	"testing"

	"github.com/tierwall/tierwall/rego"
)

// A refusal says what is wrong first, then who says so, each violation in a line of bounded length.
func TestViolationTextBeginsWithReason(t *testing.T) {
	long := "NetworkPolicy prod/wide would open " + strings.Repeat("TCP/1, ", 4000) + "which is too much. List the ports."
	for _, c := range []struct {
		name, assumption string
		violation        rego.Violation
		line, cause      string
	}{
		{"with a field", "", rego.Violation{Guardrail: "ports-listed", Message: "Too much.", Path: "/spec"},
			"Too much. (Guardrail ports-listed, /spec)", ""},
		{"without a field, under an assumption", "once namespace test is deleted", rego.Violation{Guardrail: "own", Message: "no"},
			"no (Guardrail own; once namespace test is deleted)", ""},
		{"of several lines", "", rego.Violation{Guardrail: "own", Message: "first\n  second\n\nthird"}, "first second third (Guardrail own)", "first\n  second\n\nthird (Guardrail own)"},
		{"too long", "", rego.Violation{Guardrail: "own", Message: long},
			long[:maxLine-tailLine] + " … " + long[len(long)-tailLine:] + " (Guardrail own)", long + " (Guardrail own)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := denyRequest(violationReasons([]rego.Violation{c.violation}, c.assumption)...)
			if answer.Allowed || answer.Result.Message != c.line {
				t.Errorf("allowed %v: %q, want %q", answer.Allowed, answer.Result.Message, c.line)
			}
			if c.cause == "" {
				c.cause = c.line
			}
			if causes := answer.Result.Details.Causes; len(causes) != 1 || causes[0].Message != c.cause || causes[0].Field != c.violation.Path {
				t.Errorf("the causes are %+v, want %q", causes, c.cause)
			}
		})
	}
}
