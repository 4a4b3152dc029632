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
}

// report notes what is wrong with the field, given as a JSON pointer.
func (r *reporter) report(field, format string, args ...any) {
	id := r.object
	id.Field = field
	r.problems = append(r.problems, policy.Problem{ID: id, Message: fmt.Sprintf(format, args...)})
}

// item is the JSON pointer of an element of a list.
func item(list string, i int) string { return list + "/" + strconv.Itoa(i) }
