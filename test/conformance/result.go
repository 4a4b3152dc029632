package main

import (
	"fmt"
	"io"
	"time"
)

// result is what a run has found out.
type result struct {
	planned, passed, failed, skipped int

	failures []string
	notes    []string // what else there is to say, a line each
	took     time.Duration
	broken   bool // the run itself failed
}

// ok reports whether all tests ran and passed. No tests are no success.
func (r result) ok() bool {
	return !r.broken && r.failed == 0 && r.passed > 0 && r.passed == r.planned
}

func (r result) String() string {
	text := fmt.Sprintf("%d passed, %d failed, %d skipped, of %d, in %s",
		r.passed, r.failed, r.skipped, r.planned, r.took.Round(time.Second))
	for _, note := range r.notes {
		text += "\n  " + note
	}
	for _, name := range r.failures {
		text += "\n  FAILED " + name
	}
	if !r.ok() && r.failed == 0 {
		text += "\n  the run did not finish, or left tests out: see its log"
	}
	return text
}

// outcomes of a test, as they are printed.
const (
	passed  = "passed"
	failed  = "FAILED"
	skipped = "skipped"
)

// count counts a test that is done.
func (r *result) count(w io.Writer, test, outcome, seconds string) {
	switch outcome {
	case passed:
		r.passed++
	case skipped:
		r.skipped++
	default:
		r.failed++
		r.failures = append(r.failures, test)
	}
	done := fmt.Sprint(r.passed + r.failed + r.skipped)
	if r.planned > 0 {
		done += fmt.Sprint("/", r.planned)
	}
	fmt.Fprintf(w, "[%s] %s %5.5s s  %s\n", done, outcome, seconds, test)
}
