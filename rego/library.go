package rego

// LibraryEntry is a guardrail that comes with tierwall.
type LibraryEntry struct {
	// Name is what a Guardrail's spec.library says.
	Name string
	// Title, Description and Severity are from its METADATA.
	Title, Description, Severity string
	// Source is its Rego.
	Source string
}

// Library is the guardrails that come with tierwall, sorted by name.
func Library() []LibraryEntry { return nil }
