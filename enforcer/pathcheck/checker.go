package pathcheck

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tierwall/tierwall/policy"
)

const (
	// checkEvery is how often facts are read.
	checkEvery = 5 * time.Second
	// addressGrace is how long an address may be routed to a pod before the API server shows it.
	addressGrace = 30 * time.Second
)

// Reader reads the facts of the node.
type Reader interface {
	Read(ctx context.Context) Facts
}

// Checker looks every few seconds for paths that bypass our hooks.
type Checker struct {
	// Report is called with a finding that is new, and with one that is gone. It may be nil.
	Report func(f Finding, gone bool)

	reader  Reader
	log     *slog.Logger
	program atomic.Pointer[policy.Program]
	used    chan struct{}
	// found are the current findings; nil before the first check.
	found atomic.Pointer[[]Finding]
	// since is when each finding was first seen, whether it is reported yet or not.
	since map[Finding]time.Time
	now   func() time.Time
}

// New returns a Checker, which checks nothing before the first program.
func New(r Reader, log *slog.Logger) *Checker {
	return &Checker{reader: r, log: log, used: make(chan struct{}, 1), since: map[Finding]time.Time{}, now: time.Now}
}

// Use switches to the pods of the program without blocking.
func (c *Checker) Use(p *policy.Program) {
	if c.program.Swap(p) != nil {
		return // the next check comes within seconds
	}
	select {
	case c.used <- struct{}{}:
	default:
	}
}

// Start checks until ctx ends, in the network namespace of the calling thread.
func (c *Checker) Start(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		if p := c.program.Load(); p != nil {
			c.updateFindings(c.reader.Read(ctx), p)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-c.used:
		}
	}
}

// updateFindings compares the findings with those before, and reports the differences.
func (c *Checker) updateFindings(f Facts, p *policy.Program) {
	now, seen := c.now(), map[Finding]time.Time{}
	var found []Finding
	for _, f := range Check(f, p) {
		first, known := c.since[f]
		if !known {
			first = now
		}
		seen[f] = first
		if f.Path != Address || now.Sub(first) >= addressGrace {
			found = append(found, f)
		}
	}
	c.since = seen
	before := c.Findings()
	c.found.Store(&found)
	countFindings(found)
	for _, f := range found {
		if !slices.Contains(before, f) {
			c.reportFinding(f, false)
		}
	}
	for _, f := range before {
		if !slices.Contains(found, f) {
			c.reportFinding(f, true)
		}
	}
}

func (c *Checker) reportFinding(f Finding, gone bool) {
	switch {
	case gone:
		c.log.Info("path is no longer outside of the rules", "path", f.Path, "detail", f.Detail)
	case f.Open:
		c.log.Error("path is outside of the rules", "path", f.Path, "detail", f.Detail, "remedy", f.Remedy)
	default:
		c.log.Warn("path is limited", "path", f.Path, "detail", f.Detail, "remedy", f.Remedy)
	}
	if c.Report != nil {
		c.Report(f, gone)
	}
}

// Findings returns the current findings.
func (c *Checker) Findings() []Finding {
	if found := c.found.Load(); found != nil {
		return *found
	}
	return nil
}

// Open returns an error while a path is open, or before it is known whether any is.
func (c *Checker) Open() error {
	found := c.found.Load()
	if found == nil {
		return errors.New("the first check for paths that bypass the rules is not done yet")
	}
	var errs []error
	for _, f := range *found {
		if f.Open {
			errs = append(errs, errors.New(f.String()))
		}
	}
	return errors.Join(errs...)
}

var openPaths = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "tierwall_enforcer_paths",
	Help: "Findings about ways to and from pods: state open is past the rules, limited is not as it should be, by path.",
}, []string{"path", "state"})

func countFindings(found []Finding) {
	for _, p := range Paths {
		openPaths.WithLabelValues(string(p), "open").Set(0)
		openPaths.WithLabelValues(string(p), "limited").Set(0)
	}
	for _, f := range found {
		state := "limited"
		if f.Open {
			state = "open"
		}
		openPaths.WithLabelValues(string(f.Path), state).Inc()
	}
}

// RegisterMetrics makes the package's metrics known to a registry.
func RegisterMetrics(r prometheus.Registerer) { r.MustRegister(openPaths) }
