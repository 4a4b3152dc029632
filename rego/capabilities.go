package rego

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// families are the built-ins that guardrails may call, by the part of the name
// before the dot. A judgement must follow from its input alone, so what reads a
// clock, a network, the environment or chance is not among them; neither are
// cryptography, tokens and GraphQL, which no guardrail needs.
var families = []string{
	"array", "bits", "base64", "base64url", "glob", "hex", "json", "net", "numbers", "object",
	"regex", "semver", "strings", "time", "units", "urlquery", "uri", "yaml",
}

// plain are the built-ins without a family that guardrails may call: operators,
// aggregates, sets, strings, types and conversions.
var plain = []string{
	"abs", "all", "and", "any", "assign", "ceil", "concat", "contains", "count", "div", "endswith",
	"eq", "equal", "floor", "format_int", "gt", "gte", "indexof", "indexof_n", "intersection",
	"is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string", "lower",
	"lt", "lte", "max", "min", "minus", "mul", "neq", "or", "plus", "product", "rem", "replace",
	"round", "sort", "split", "sprintf", "startswith", "substring", "sum", "to_number", "trim",
	"trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix", "type_name", "union",
	"upper", "walk", "internal.member_2", "internal.member_3", "internal.template_string",
	"graph.reachable",
}

// barred are members of the families that can fill the memory at one call, or
// evaluate templates of their own. Those that are not deterministic are barred in any case.
var barred = []string{"net.cidr_expand", "strings.render_template", "json.match_schema", "json.verify_schema"}

// capabilities are what the Rego of guardrails may use of OPA.
var capabilities = sync.OnceValue(func() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool { return !isAllowedBuiltin(b) })
	c.AllowNet = []string{}
	return c
})

func isAllowedBuiltin(b *ast.Builtin) bool {
	if b.Nondeterministic || slices.Contains(barred, b.Name) {
		return false
	}
	family, _, dotted := strings.Cut(b.Name, ".")
	return slices.Contains(plain, b.Name) || dotted && slices.Contains(families, family)
}
