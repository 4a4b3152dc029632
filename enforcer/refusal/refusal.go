// Package refusal describes classes that a backend closed because the kernel refused their rules.
package refusal

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// Classes are those that cannot be in force, and why. Their endpoints are closed, so that
// everything else can be in force.
type Classes map[transition.Class]error

// Problems are the objects of a program that the rules of the classes come from.
func (c Classes) Problems(p *policy.Program) []policy.Problem {
	var out []policy.Problem
	seen := map[policy.Problem]bool{}
	for k, err := range c {
		class := k.ClassIn(p)
		if class == nil {
			continue
		}
		for _, id := range ObjectsOf(class) {
			problem := policy.Problem{ID: id, Message: fmt.Sprintf("its pods are closed for %s on this node, because their rules cannot be in force: %v", k.Direction, err)}
			if !seen[problem] {
				seen[problem] = true
				out = append(out, problem)
			}
		}
	}
	slices.SortFunc(out, func(a, b policy.Problem) int { return strings.Compare(a.Error(), b.Error()) })
	return out
}

// ForgetGone leaves out the classes that a program does not have.
func (c Classes) ForgetGone(p *policy.Program) {
	maps.DeleteFunc(c, func(k transition.Class, _ error) bool { return k.ClassIn(p) == nil })
}

// maxObjects is how many objects of a class are named.
const maxObjects = 20

// ObjectsOf are the objects that the rules of a class come from.
func ObjectsOf(c *policy.Class) []policy.RuleID {
	var out []policy.RuleID
	for _, t := range c.Tiers {
		for _, r := range t.Rules {
			id := r.ID
			id.Field = ""
			if !slices.Contains(out, id) && len(out) < maxObjects {
				out = append(out, id)
			}
		}
	}
	return out
}
