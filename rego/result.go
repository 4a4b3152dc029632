package rego

import "fmt"

// MaxMessages is how many messages of one guardrail a Result holds in each list;
// what goes beyond is counted in a last one.
const MaxMessages = 3

// Result is what the guardrails say of a change; it may be made when there are no Denials.
type Result struct {
	Denials  []Violation
	Warnings []Violation
}

// Violation is one message of one guardrail.
type Violation struct {
	// Guardrail is the name of the Guardrail object.
	Guardrail string
	// Title and Severity are from the guardrail's METADATA; they may be empty.
	Title, Severity string
	// Message is what to tell the sender of the request.
	Message string
	// Path is the field at fault, as a JSON pointer; empty when the guardrail names none.
	Path string
}

// add takes in what a guardrail answered. One that failed is violated, since
// nobody knows what it would have said; one that only warns can only warn.
func (r *Result) add(g *guardrail, a answer) {
	if a.failure != nil {
		a = answer{denials: []message{{text: fmt.Sprintf("guardrail %s could not judge this: %v. Ask your administrator.", g.name, a.failure)}}}
	}
	if g.warnOnly {
		a = answer{warnings: append(a.denials, a.warnings...)}
	}
	r.Denials = append(r.Denials, g.violations(a.denials)...)
	r.Warnings = append(r.Warnings, g.violations(a.warnings)...)
}

func (g *guardrail) violations(messages []message) []Violation {
	var out []Violation
	for i, m := range messages {
		v := Violation{Guardrail: g.name, Title: g.about.title, Severity: g.about.severity, Message: m.text, Path: m.path}
		if rest := len(messages) - i; i == MaxMessages-1 && rest > 1 {
			v.Message, v.Path = fmt.Sprintf("and %d more of this kind", rest), ""
			return append(out, v)
		}
		out = append(out, v)
	}
	return out
}
