package compile

import (
	"fmt"
	"strconv"

	"github.com/tierwall/tierwall/policy"
)

// reporter collects the problems of one object.
type reporter struct {
	object   policy.RuleID
	problems []policy.Problem
	omitted  int
}

// maxProblems is how many problems of one object are reported.
const maxProblems = 100

// report notes what is wrong with the field, given as a JSON pointer.
func (r *reporter) report(field, format string, args ...any) {
	if len(r.problems) == maxProblems {
		r.omitted++
		return
	}
	id := r.object
	id.Field = field
	r.problems = append(r.problems, policy.Problem{ID: id, Message: fmt.Sprintf(format, args...)})
}

// all are the problems that were reported, and one that counts those beyond maxProblems.
func (r *reporter) all() []policy.Problem {
	if r.omitted == 0 {
		return r.problems
	}
	return append(r.problems, policy.Problem{ID: r.object, Message: fmt.Sprintf("there are %d problems more", r.omitted)})
}

// item is the JSON pointer of an element of a list.
func item(list string, i int) string { return list + "/" + strconv.Itoa(i) }
