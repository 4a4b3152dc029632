package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/tierwall/tierwall/cli/check"
	"github.com/tierwall/tierwall/cli/manifest"
)

// human writes the findings, those that say the same of several objects once, and a summary.
func (r Report) human(out io.Writer, style Style) error {
	w := bufio.NewWriter(out)
	for _, text := range ErrorTexts(r.Errors) {
		fmt.Fprintln(w, style.Bad("error")+"  "+style.Wrap(text, 7))
	}
	if len(r.Errors) > 0 {
		fmt.Fprintln(w)
	}
	writeFindings(w, style, r.Findings)
	r.summary(w, style)
	return w.Flush()
}

func level(l check.Level, style Style) string {
	if l == check.Deny {
		return style.Bad("deny")
	}
	return style.Notice("warn")
}

// place is the line and the field.
func place(f check.Finding) string {
	if f.Line == 0 {
		return f.Field
	}
	return strings.TrimSpace(fmt.Sprintf("line %d  %s", f.Line, f.Field))
}

func (r Report) summary(w io.Writer, style Style) {
	denials := r.Denials()
	warnings := len(r.Findings) - denials
	policies := 0
	for _, o := range r.Objects {
		if o.Value != nil && manifest.IsPolicy(o.ID()) {
			policies++
		}
	}
	verdict := style.Good("nothing to object to")
	switch {
	case len(r.Errors) > 0:
		verdict = style.Bad(plural(len(r.Errors), "error") + ": nothing was judged")
	case denials > 0:
		verdict = style.Bad(plural(denials, "violation"))
	}
	if warnings > 0 {
		verdict += ", " + style.Notice(plural(warnings, "warning"))
	}
	fmt.Fprintf(w, "%s, %s, %s: %s\n", plural(len(r.Objects), "object"), policyCount(policies), plural(len(r.Guardrails), "guardrail"), verdict)
	if r.Exempt > 0 {
		fmt.Fprintln(w, style.Faint(fmt.Sprintf("not judged, as their namespaces are exempt: %s", policyCount(r.Exempt))))
	}
	if unread := r.unread(); len(unread) > 0 {
		fmt.Fprintln(w, style.Faint("not looked at: "+counted(unread)))
	}
	for _, note := range Notes(r.Reading, r.Unenforced) {
		if strings.HasPrefix(note, "warning") {
			note = style.Notice(note)
		} else {
			note = style.Faint(note)
		}
		fmt.Fprintln(w, note)
	}
}

func policyCount(n int) string {
	if n == 1 {
		return "1 policy"
	}
	return fmt.Sprintf("%d policies", n)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
