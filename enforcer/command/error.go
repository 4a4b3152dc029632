package command

import (
	"fmt"
	"regexp"
	"strconv"
)

// Error is a tool's failure.
type Error struct {
	// Tool is its name, and Says its error output.
	Tool, Says string
	// Lines were its input.
	Lines []string
	Err   error
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %v", e.Tool, e.Err)
	if e.Says != "" {
		text += ": " + e.Says
	}
	if n := e.Line(); n > 0 {
		text += fmt.Sprintf(" (line %d: %s)", n, e.Lines[n-1])
	}
	return text
}

// lineNumber is how iptables-restore and ipset name a line of their input.
var lineNumber = regexp.MustCompile(`\bline:? (\d+)`)

// Line returns the number of the input line that the error output names, or 0.
func (e *Error) Line() int {
	m := lineNumber.FindStringSubmatch(e.Says)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n > len(e.Lines) {
		return 0
	}
	return n
}
