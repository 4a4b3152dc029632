package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// result is what a run has found out.
type result struct {
	planned, passed, failed int
	failures                []string
	took                    time.Duration
	broken                  bool // the run itself failed
}

// ok says whether all tests ran and passed. No tests are no success.
func (r result) ok() bool {
	return !r.broken && r.failed == 0 && r.passed > 0 && r.passed == r.planned
}

func (r result) String() string {
	text := fmt.Sprintf("%d passed, %d failed, of %d, in %s", r.passed, r.failed, r.planned, r.took.Round(time.Second))
	for _, name := range r.failures {
		text += "\n  FAILED " + name
	}
	if !r.ok() && r.failed == 0 {
		text += "\n  the run did not finish: see its log"
	}
	return text
}

// Lines of ginkgo's verbose report.
var (
	plan = regexp.MustCompile(`^Will run (\d+) of \d+ specs`)
	name = regexp.MustCompile(`^\[sig-[a-z-]+\] (.*)`)
	done = regexp.MustCompile(`^• (\[[A-Z ]+\] )?\[([0-9.]+) seconds\]`)
	tags = regexp.MustCompile(`( \[[^]]*\])+$`)
)

// follow reads ginkgo's verbose report, and writes a line for each test that
// is done. The report of a test has its outcome before its name if tests run
// at the same time, and after it if they do not.
func follow(report io.Reader, w io.Writer, now func() time.Time) result {
	var r result
	var test string
	var outcome []string
	start := now()
	lines := bufio.NewReader(report)
	for {
		line, err := lines.ReadString('\n')
		line = strings.TrimRight(line, "\n")
		if m := plan.FindStringSubmatch(line); m != nil {
			r.planned, _ = strconv.Atoi(m[1])
		} else if m := name.FindStringSubmatch(line); m != nil && test == "" {
			test = tags.ReplaceAllString(strings.Replace(m[1], "[It] ", "", 1), "")
		} else if m := done.FindStringSubmatch(line); m != nil {
			outcome = m
		} else if strings.HasPrefix(line, "----------") || err != nil {
			if outcome != nil {
				r.count(w, test, outcome[1], outcome[2])
			}
			test, outcome = "", nil
		}
		if err != nil {
			r.took = now().Sub(start)
			return r
		}
	}
}

// count counts a test that is done; mark is empty if it passed.
func (r *result) count(w io.Writer, test, mark, seconds string) {
	word := "passed"
	if mark == "" {
		r.passed++
	} else {
		word = "FAILED"
		r.failed++
		r.failures = append(r.failures, test)
	}
	fmt.Fprintf(w, "[%d/%d] %s %5.5s s  %s\n", r.passed+r.failed, r.planned, word, seconds, test)
}
