package admit

import (
	"strings"

	"github.com/tierwall/tierwall/rego"
)

// A line of a refusal has at most maxLine characters of a guardrail's message. If the message is longer, its
// last tailLine characters, which have the advice, are kept. The causes of the refusal have the whole message.
const maxLine, tailLine = 360, 160

// violationReasons returns the violations as reasons. The assumption names changes in flight without which
// the violations would not happen; it may be empty.
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

// violationText returns the message, followed by the guardrail, the field and the assumption.
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

// shortenLine returns the message as one line. It cuts the middle out of a long one.
func shortenLine(message string) string {
	line := strings.Join(strings.Fields(message), " ")
	if runes := []rune(line); len(runes) > maxLine {
		return string(runes[:maxLine-tailLine]) + " … " + string(runes[len(runes)-tailLine:])
	}
	return line
}
