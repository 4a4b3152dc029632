package report_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli/check"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/report"
)

func human(t *testing.T, r report.Report) string {
	t.Helper()
	var out bytes.Buffer
	if err := r.Write(&out, "human", report.Style{}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func finding(object, rule, message string) check.Finding {
	return check.Finding{Level: check.Deny, Rule: rule, File: "x.yaml", Line: 3, Object: object, Field: "/spec", Message: message}
}

// Findings that differ by the objects' names alone are one, with a list.
func TestFindingsThatSayTheSameAreOne(t *testing.T) {
	var r report.Report
	for i := range 13 {
		name := fmt.Sprintf("NetworkPolicy shop/p-%d", i)
		r.Findings = append(r.Findings, finding(name, "default-deny-stays", name+" would open all."), finding(name, "owner-required", name+" has no owner."))
	}
	r.Findings = append(r.Findings, finding("NetworkPolicy shop/other", "tier-order", "NetworkPolicy shop/other is another."))
	got := human(t, r)
	for _, once := range []string{"Each of them would open all.", "Each of them has no owner.", "NetworkPolicy shop/other is another."} {
		if strings.Count(got, once) != 1 {
			t.Errorf("%q is there %d times\n%s", once, strings.Count(got, once), got)
		}
	}
	if strings.Count(got, "and 8 more") != 2 || strings.Count(got, "\n") > 25 || !strings.Contains(got, "27 violations") {
		t.Errorf("%s", got)
	}
}

// Many findings of one rule about one object are cut, and no message fills the screen.
func TestManyFindingsOfOneObjectAreCut(t *testing.T) {
	var r report.Report
	for i := range 13 {
		r.Findings = append(r.Findings, finding("NetworkPolicy shop/a", "egress-to-world", fmt.Sprintf("NetworkPolicy shop/a reaches %d: %s. Name it.", i, strings.Repeat("192.0.2.0/24, ", 2000))))
	}
	got := human(t, r)
	if len(got) > 3300 || !strings.Contains(got, "and 10 more") || !strings.Contains(got, "Name it.") {
		t.Errorf("%d bytes\n%s", len(got), got)
	}
	r = report.Report{}
	for i := range 151 {
		r.Errors = append(r.Errors, manifest.Error{File: fmt.Sprint(i), Message: "is wrong"})
	}
	if got := human(t, r); strings.Count(got, "\n") > 26 || !strings.Contains(got, "and 131 more") {
		t.Errorf("%s", got)
	}
}
