package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFollowCNP(t *testing.T) {
	const begin = "\x16=== RUN   TestConformanceProfiles\n\x16=== RUN   TestConformanceProfiles/CNPPriorityField\n"
	const good = "\x16    --- PASS: TestConformanceProfiles/CNPPriorityField (8.21s)\n"
	const named = "\x16        --- PASS: TestConformanceProfiles/CNPEgressNamedPort/Should_support_it (3.10s)\n" +
		"\x16    --- PASS: TestConformanceProfiles/CNPEgressNamedPort (4.00s)\n"
	const bad = "\x16        --- FAIL: TestConformanceProfiles/CNPEgressNamedPort/Should_support_it (10.00s)\n" +
		"\x16    --- FAIL: TestConformanceProfiles/CNPEgressNamedPort (12.00s)\n"
	const skip = "\x16    --- SKIP: TestConformanceProfiles/CNPEgressNamedPort (0.00s)\n"
	const standard = `profiles:
- name: ClusterNetworkPolicy
  standard: {result: success, statistics: {Passed: 1, Failed: 0, Skipped: 0}}
`
	const both = standard + "  experimental: {result: success, statistics: {Passed: 1, Failed: 0, Skipped: 0}}\n"
	const worse = standard + "  experimental: {result: failure, statistics: {Passed: 0, Failed: 1, Skipped: 0}}\n"
	for _, c := range []struct {
		name, output, report string
		ok                   bool
		says                 string
	}{
		{"all pass", begin + good + named, both, true, "2 passed, 0 failed, 0 skipped, of 2"},
		{"and so says the report", begin + good + named, both, true, "ClusterNetworkPolicy experimental: success, 1 passed"},
		{"one fails", begin + good + bad, worse, false, "FAILED CNPEgressNamedPort"},
		{"one is not supported", begin + good + skip, standard, false, "has 1 tests, its output 2"},
		{"it stops", begin + good, "", false, "read the suite's report"},
		{"nothing runs", "", both, false, "did not finish"},
		{"the report cannot be read", begin + good, "profiles: 1", false, "read the suite's report"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.report != "" {
				if err := os.WriteFile(filepath.Join(dir, cnpReport), []byte(c.report), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := cnp{}.follow(strings.NewReader(c.output), io.Discard, dir)
			if r.ok() != c.ok || !strings.Contains(r.String(), c.says) {
				t.Errorf("ok %v, %q; want %v, %q", r.ok(), r, c.ok, c.says)
			}
		})
	}
}

func TestFailedPartsAreNamed(t *testing.T) {
	var w strings.Builder
	cnp{}.follow(strings.NewReader("\x16 --- FAIL: TestConformanceProfiles/CNPEgress/Should_deny (1.00s)\n"), &w, t.TempDir())
	if w.String() != "  CNPEgress: Should deny\n" {
		t.Errorf("%q", &w)
	}
}
