package main

import (
	"io"
	"strings"
	"testing"
)

func TestFollowNetpol(t *testing.T) {
	const line = "------------------------------\n"
	const head = "Will run 2 of 7355 specs\nSSSS\n" + line
	const good = "[sig-network] Netpol API should support it [sig-network]\nfile.go:1\n  STEP: x\n• [0.2 seconds]\n" + line
	const bad = "• [FAILED] [61.5 seconds]\n[sig-network] Netpol should deny [Feature:NetworkPolicy] [sig-network]\n" + line
	for _, c := range []struct {
		name, report string
		ok           bool
		says         string
	}{
		{"all pass", head + good + good, true, "2 passed, 0 failed, 0 skipped, of 2"},
		{"one fails", head + good + bad, false, "1 passed, 1 failed, 0 skipped, of 2, in 0s\n  FAILED Netpol should deny"},
		{"it stops", head + good, false, "did not finish"},
		{"nothing runs", "", false, "did not finish"},
		{"a timeout", head + good + strings.Replace(bad, "FAILED", "TIMEDOUT", 1), false, "1 failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := netpol{}.follow(strings.NewReader(c.report), io.Discard, "")
			if r.ok() != c.ok || !strings.Contains(r.String(), c.says) {
				t.Errorf("ok %v, %q; want %v, %q", r.ok(), r, c.ok, c.says)
			}
		})
	}
}
