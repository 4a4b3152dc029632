package admit

import (
	"strings"

	"github.com/tierwall/tierwall/rego"
)

// A line of a refusal has at most maxLine characters of a guardrail's message, of which tailLine are
// from its end, where the advice is. The causes of a refusal have the whole message.
const maxLine, tailLine = 360, 160

// violationReasons are what guardrails deny for: a line each, of which no guardrail has more than
// rego.MaxMessages. The assumption is what a change that is under way would make of the cluster.
func violationReasons(violations []rego.Violation, assumption string) []denialReason {
	out := make([]denialReason, 0, len(violations))
	for _, v := range violations {
		text := violationText(v, v.Message, assumption)
		out = append(out, denialReason{field: v.Path, message: text, line: violationText(v, shortenLine(v.Message), assumption)})
	}
	return out
}

func violationWarnings(r rego.Result) []string {
	var out []string
	for _, v := range r.Warnings {
		out = append(out, violationText(v, shortenLine(v.Message), ""))
	}
	return out
}

// violationText is what is wrong, and then who says so and of which field.
func violationText(v rego.Violation, message, assumption string) string {
	from := "Guardrail " + v.Guardrail
	if v.Path != "" {
		from += ", " + v.Path
	}
	if assumption != "" {
		from += "; " + assumption
	}
	return message + " (" + from + ")"
}

// shortenLine makes one line of a message, and leaves out the middle of a long one.
func shortenLine(message string) string {
	line := strings.Join(strings.Fields(message), " ")
	if runes := []rune(line); len(runes) > maxLine {
		return string(runes[:maxLine-tailLine]) + " … " + string(runes[len(runes)-tailLine:])
	}
	return line
}
