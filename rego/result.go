package rego

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
