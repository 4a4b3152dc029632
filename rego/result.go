package rego

import (
	"fmt"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// MaxMessages is how many messages of one guardrail a Result holds in each list;
// what goes beyond is counted in a last one.
const MaxMessages = 3

// Result is what the guardrails say of a change; it may be made when there are no Denials.
type Result struct {
	Denials  []Violation
	Warnings []Violation
	// Audited are those of guardrails that only audit: not for the sender of the request.
	Audited []Violation
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

// addAnswer takes in what a guardrail answered. One that failed is violated, since
// nobody knows what it would have said.
func (r *Result) addAnswer(p *Prepared, e v1alpha1.Enforcement, a answer) {
	if a.failure != nil {
		a = answer{denials: []message{{text: fmt.Sprintf("guardrail %s could not judge this: %v. Ask your administrator.", p.name, a.failure)}}}
	}
	r.Put(e, p.toViolations(a.denials), p.toViolations(a.warnings))
}

// Put adds what a guardrail of an enforcement denies and warns of: one that warns
// can only warn, and one that audits not even that.
func (r *Result) Put(e v1alpha1.Enforcement, denials, warnings []Violation) {
	switch e {
	case v1alpha1.EnforceAudit:
		r.Audited = append(append(r.Audited, denials...), warnings...)
	case v1alpha1.EnforceWarn:
		r.Warnings = append(append(r.Warnings, denials...), warnings...)
	default: // nothing less than to deny for what is not known
		r.Denials, r.Warnings = append(r.Denials, denials...), append(r.Warnings, warnings...)
	}
}

func (p *Prepared) toViolations(messages []message) []Violation {
	var out []Violation
	for i, m := range messages {
		v := Violation{Guardrail: p.name, Title: p.about.title, Severity: p.about.severity, Message: m.text, Path: m.path}
		if rest := len(messages) - i; i == MaxMessages-1 && rest > 1 {
			v.Message, v.Path = fmt.Sprintf("and %d more of this kind", rest), ""
			return append(out, v)
		}
		out = append(out, v)
	}
	return out
}
