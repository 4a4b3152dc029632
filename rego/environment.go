package rego

import "github.com/open-policy-agent/opa/v1/ast"

// Capabilities are what the Rego of guardrails may use of OPA, for those that
// compile it elsewhere, as tests do. They are the caller's own.
func Capabilities() *ast.Capabilities {
	c := *capabilities()
	c.Builtins = append([]*ast.Builtin{}, c.Builtins...)
	return &c
}

// Shared is the source of package tierwall.lib, which guardrails may import.
func Shared() string { return embeddedFile(sharedFile) }
