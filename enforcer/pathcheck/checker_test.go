package pathcheck

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestFindingsAreReportedWhenTheyComeAndGo(t *testing.T) {
	var reports []string
	c := New(nil, slog.New(slog.DiscardHandler))
	c.Report = func(f Finding, gone bool) {
		reports = append(reports, map[bool]string{true: "gone ", false: "new "}[gone]+string(f.Path))
	}
	if c.Open() == nil {
		t.Error("nothing was checked, and no path is said to be open")
	}
	sound, open, limited := soundFacts(), soundFacts(), soundFacts()
	open.Bridged[ipv4] = false
	limited.Connections = limited.MaxConnections
	fuller := limited
	fuller.Connections++
	for i, step := range []struct {
		facts Facts
		open  bool
		want  string
	}{{sound, false, ""}, {open, true, "new bridge"}, {open, true, ""}, {limited, false, "new conntrack gone bridge"}, {fuller, false, ""}, {sound, false, "gone conntrack"}} {
		reports = nil
		c.updateFindings(step.facts, program())
		if got := strings.Join(reports, " "); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
		if (c.Open() != nil) != step.open {
			t.Errorf("step %d: %v", i, c.Open())
		}
		if got := testutil.ToFloat64(openPaths.WithLabelValues("bridge", "open")); (got == 1) != step.open {
			t.Errorf("step %d: the metric says %v", i, got)
		}
	}
}

// A pod's address is routed before the API server shows it.
func TestAnAddressHasTimeToBeShown(t *testing.T) {
	c := New(nil, slog.New(slog.DiscardHandler))
	now := time.Unix(0, 0)
	c.now = func() time.Time { return now }
	f := soundFacts()
	f.Routes = append(f.Routes, route(pair, "172.16.0.4/32"))
	for _, step := range []struct {
		after time.Duration
		open  bool
	}{{0, false}, {addressGrace / 2, false}, {addressGrace / 2, true}} {
		now = now.Add(step.after)
		c.updateFindings(f, program())
		if (c.Open() != nil) != step.open {
			t.Errorf("at %v: %v", now.Sub(time.Unix(0, 0)), c.Open())
		}
	}
	c.updateFindings(soundFacts(), program())
	now = now.Add(time.Second)
	if c.updateFindings(f, program()); c.Open() != nil {
		t.Error("an address that comes again has no time to be shown")
	}
}
