package command

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestAToolThatHangsIsKilledAndNamed(t *testing.T) {
	for name, script := range map[string]string{
		"it waits": "exec sleep 600",
		// What it left ends, too, once nobody reads what it prints.
		"it left a program that waits": "while sleep 0.1; do echo still there; done & wait",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := startWithin(t.Context(), 50*time.Millisecond, nil, "sh", "-c", script).Wait()
			if err == nil || err.Error() != "sh: killed: it did not end within 50ms" {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestAToolEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, nil, "sleep", "600"); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "sleep: ") {
		t.Errorf("error %v", err)
	}
}

func TestTheErrorOfAToolNamesTheLine(t *testing.T) {
	for _, says := range []string{"iptables-restore: line 2 failed", "ipset v7.17: Error in line 2: Set cannot be destroyed", "iptables-nft-restore: line 2: CHAIN_DEL failed"} {
		e := &Error{Tool: "x", Says: says, Lines: []string{"one", "two"}}
		if e.Line() != 2 || !strings.Contains(e.Error(), "(line 2: two)") {
			t.Errorf("%s: %v", says, e)
		}
	}
	if e := (&Error{Says: "line 7 failed", Lines: []string{"one"}}); e.Line() != 0 {
		t.Error("a line that was not sent")
	}
}

func TestAToolReadsItsLinesAndSaysWhatItPrinted(t *testing.T) {
	if out, err := Run(t.Context(), []string{"one", "two"}, "cat"); out != "one\ntwo\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	_, err := Run(t.Context(), nil, "no-such-tool")
	if !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a tool that is missing: %v", err)
	}
}
