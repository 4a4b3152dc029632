package rego

import "github.com/open-policy-agent/opa/v1/ast"

// quiet says whether a guardrail of the library has nothing to say of a change
// without any effect, whatever it is of: it looks at the effect and at its parameters
// alone. (The shared package looks at the object too, for the words of messages.) Such
// changes are the most frequent ones, and it need not be asked about them. Of anybody
// else's Rego nobody knows.
func (s *source) quiet() bool {
	if inLibrary(s.name) != s {
		return false
	}
	yes := true
	ast.WalkRefs(s.module, func(r ast.Ref) bool {
		if !r[0].Equal(ast.InputRootDocument) {
			return false
		}
		yes = yes && len(r) > 1 && (r[1].Equal(ast.StringTerm("effect")) || r[1].Equal(ast.StringTerm("parameters")))
		return false
	})
	return yes
}
