package rego

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/tierwall/tierwall/policy/effect"
)

// shared are the parts of the effect that the shared package looks at.
var shared = []effect.Part{effect.Complete, effect.Incomplete, effect.Truncated}

// relevantParts are the parts of the effect that a guardrail of the library has something to say
// of. Where they are as in a change without any effect it need not be asked: it looks at them
// and at its parameters alone. (The shared package looks at the object too, for the words of messages.)
// It is false of one that looks at more; of anybody else's Rego nobody knows.
func (s *source) relevantParts() (parts []effect.Part, quiet bool) {
	if inLibrary(s.name) != s {
		return nil, false
	}
	quiet, parts = true, shared
	ast.WalkRefs(s.module, func(r ast.Ref) bool {
		if !r[0].Equal(ast.InputRootDocument) {
			return false
		}
		switch {
		case len(r) > 1 && r[1].Equal(ast.StringTerm("parameters")):
		case len(r) > 1 && r[1].Equal(ast.StringTerm("effect")):
			parts = append(parts, partsOf(r[2:])...)
		default:
			quiet = false
		}
		return false
	})
	return parts, quiet
}

// partsOf are those that a reference into the effect is about: all of them unless it names one.
func partsOf(path ast.Ref) []effect.Part {
	name := ""
	for _, step := range path {
		text, ok := step.Value.(ast.String)
		if !ok {
			break
		}
		if name += "/" + string(text); effect.Part(name[1:]).IsKnown() {
			return []effect.Part{effect.Part(name[1:])}
		}
	}
	return effect.AllParts()
}

// canSkip reports whether the guardrail finds nothing in an effect, whatever its parameters.
func (p *Prepared) canSkip(e *effect.Effect) bool {
	for _, part := range p.parts {
		if !e.IsEmpty(part) {
			return false
		}
	}
	return p.skippable
}
