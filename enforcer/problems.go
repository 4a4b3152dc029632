package enforcer

import (
	"slices"
	"time"

	"github.com/tierwall/tierwall/policy"
)

const (
	// maxLoggedProblems bounds the log lines of one report.
	maxLoggedProblems = 100
	// maxProblemNamespaces and maxProblemObjects bound the time series of the problem metric: so many namespaces of a
	// kind have their own, each for so many objects. The rest is counted as otherName.
	maxProblemNamespaces = 50
	maxProblemObjects    = 10
	otherName            = "other"
	// reportRest is how many times as long as a report took the next one waits, so that the problems of one tenant
	// do not delay changes of others.
	reportRest = 50
)

// problemReporter logs and counts the problems of policies and of pods' addresses.
type problemReporter struct {
	// reported are the problems that were logged, refused is how many of them the backend had.
	reported map[policy.Problem]bool
	refused  int
	// addresses are the problems with pods' addresses that were logged.
	addresses map[policy.Problem]bool
	// due is true when problems may have changed since the last report; notBefore is when they may be reported.
	due       bool
	notBefore time.Time
}

// refusingBackend is a Backend that closes what the kernel refuses, and puts the rest in force.
type refusingBackend interface {
	// Problems are the objects whose rules are not in force for that.
	Problems() []policy.Problem
}

// reportDueProblems reports problems that may have changed, unless the last report is too recent for what it cost.
func (e *Enforcer) reportDueProblems() {
	if e.problems.due && !time.Now().Before(e.problems.notBefore) {
		e.reportProblems()
	}
}

// reportProblems reports the problems of objects, and of those whose rules the kernel refuses.
func (e *Enforcer) reportProblems() {
	start := time.Now()
	all := e.engine.Problems()
	if b, ok := e.Backend.(refusingBackend); ok {
		refused := b.Problems()
		e.problems.refused = len(refused)
		all = append(slices.Clip(all), refused...)
	}
	countProblems(all)
	e.problems.reported = e.logNewProblems(all, e.problems.reported, "not understood, and so denied", func(p policy.Problem) []any {
		return []any{"object", p.ID.Object(), "field", p.ID.Field, "problem", p.Message}
	})
	end := time.Now()
	e.problems.due, e.problems.notBefore = false, end.Add(reportRest*end.Sub(start))
}

// refusalsChanged reports whether the backend has, or had, problems to report.
func (e *Enforcer) refusalsChanged() bool {
	b, ok := e.Backend.(refusingBackend)
	return ok && e.problems.refused+len(b.Problems()) > 0
}

// reportAddresses counts the pods whose status reports addresses that are not theirs, and logs each address when it appears.
func (e *Enforcer) reportAddresses() {
	now, pods := e.engine.AddressProblems()
	disputedPods.Set(float64(pods))
	e.problems.addresses = e.logNewProblems(now, e.problems.addresses, "rejected an address that a pod's status reports", func(p policy.Problem) []any {
		return []any{"pod", p.ID.Namespace + "/" + p.ID.Name, "problem", p.Message}
	})
}

// logNewProblems logs the problems that were not reported before, up to a limit, and returns all as reported.
func (e *Enforcer) logNewProblems(now []policy.Problem, before map[policy.Problem]bool, message string, keys func(policy.Problem) []any) map[policy.Problem]bool {
	seen, logged := make(map[policy.Problem]bool, len(now)), 0
	for _, p := range now {
		if before[p] || seen[p] {
			continue
		}
		seen[p] = true
		if logged++; logged <= maxLoggedProblems {
			e.Log.Warn(message, keys(p)...)
		}
	}
	if logged > maxLoggedProblems {
		e.Log.Warn("more problems appeared than are logged at a time", "notLogged", logged-maxLoggedProblems)
	}
	for _, p := range now {
		seen[p] = true
	}
	return seen
}

// problemSeries is the labels of one time series of the problem metric.
type problemSeries struct{ kind, namespace, name string }

// countProblems sets the problem metric.
func countProblems(all []policy.Problem) {
	problems.Reset()
	for s, n := range boundProblemSeries(all) {
		problems.WithLabelValues(s.kind, s.namespace, s.name).Set(float64(n))
	}
}

// boundProblemSeries counts problems by object. Tenants choose the names, so only some objects of some namespaces have
// series of their own, the first in the problems' order.
func boundProblemSeries(all []policy.Problem) map[problemSeries]int {
	out := map[problemSeries]int{}
	namespaces := map[string]int{}        // of each kind, that have series
	objects := map[problemSeries]int{}    // of each kind and namespace, that have series
	hasSeries := map[problemSeries]bool{} // kinds and namespaces
	for _, p := range all {
		series := problemSeries{p.ID.Kind, p.ID.Namespace, p.ID.Name}
		namespace := problemSeries{kind: p.ID.Kind, namespace: p.ID.Namespace}
		if !hasSeries[namespace] && namespaces[p.ID.Kind] < maxProblemNamespaces {
			hasSeries[namespace] = true
			namespaces[p.ID.Kind]++
		}
		switch _, known := out[series]; {
		case !hasSeries[namespace]:
			series.namespace, series.name = otherName, otherName
		case known:
		case objects[namespace] == maxProblemObjects:
			series.name = otherName
		default:
			objects[namespace]++
		}
		out[series]++
	}
	return out
}
