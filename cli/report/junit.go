package report

import (
	"encoding/xml"
	"fmt"
	"io"

	"github.com/tierwall/tierwall/cli/check"
)

// The parts of JUnit's XML that readers agree on: a suite for each file, a case for
// each object.
type (
	junitSuites struct {
		XMLName  xml.Name      `xml:"testsuites"`
		Name     string        `xml:"name,attr"`
		Tests    int           `xml:"tests,attr"`
		Failures int           `xml:"failures,attr"`
		Errors   int           `xml:"errors,attr"`
		Suites   []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Cases    []*junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string         `xml:"name,attr"`
		Class     string         `xml:"classname,attr"`
		File      string         `xml:"file,attr"`
		Line      int            `xml:"line,attr,omitempty"`
		Failures  []junitProblem `xml:"failure"`
		Errors    []junitProblem `xml:"error"`
		SystemOut string         `xml:"system-out,omitempty"`
	}
	junitProblem struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

func (r Report) junit(out io.Writer) error {
	all := &junitSuites{Name: "tierwall check"}
	cases := map[[2]string]*junitCase{}
	for _, o := range r.Objects {
		if o.Value != nil {
			cases[[2]string{o.File, o.ID()}] = all.add(o.File, o.ID(), o.Line(""))
		}
	}
	for _, f := range r.Findings {
		c := cases[[2]string{f.File, f.Object}]
		text := fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Rule, f.Message)
		if f.Level == check.Warn {
			c.SystemOut += "warning: " + text + "\n"
			continue
		}
		c.Failures = append(c.Failures, junitProblem{Type: f.Rule, Message: f.Message, Text: text})
	}
	for _, e := range r.Errors {
		c := all.add(e.File, "is read", e.Line)
		if e.Object != "" {
			c.Name = e.Object
		}
		c.Errors = append(c.Errors, junitProblem{Type: "unreadable", Message: e.Message, Text: e.Error()})
	}
	all.count()
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return fmt.Errorf("write XML: %w", err)
	}
	encoder := xml.NewEncoder(out)
	encoder.Indent("", "  ")
	if err := encoder.Encode(all); err != nil {
		return fmt.Errorf("write XML: %w", err)
	}
	_, err := io.WriteString(out, "\n")
	return err
}

// add adds a case to the suite of a file.
func (s *junitSuites) add(file, name string, line int) *junitCase {
	if n := len(s.Suites); n == 0 || s.Suites[n-1].Name != file {
		s.Suites = append(s.Suites, &junitSuite{Name: file})
	}
	suite := s.Suites[len(s.Suites)-1]
	c := &junitCase{Name: name, Class: file, File: file, Line: line}
	suite.Cases = append(suite.Cases, c)
	return c
}

// count counts cases, those that failed and those that could not be read.
func (s *junitSuites) count() {
	for _, suite := range s.Suites {
		for _, c := range suite.Cases {
			suite.Tests++
			suite.Failures += min(len(c.Failures), 1)
			suite.Errors += min(len(c.Errors), 1)
		}
		s.Tests, s.Failures, s.Errors = s.Tests+suite.Tests, s.Failures+suite.Failures, s.Errors+suite.Errors
	}
}
