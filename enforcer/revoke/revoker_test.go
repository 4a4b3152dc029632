package revoke

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tierwall/tierwall/policy"
)

// admitting is a program of one pod that admits the given ones, and nobody else.
func admitting(from ...byte) *policy.Program {
	set := &policy.Set{ID: "s"}
	for _, n := range from {
		set.Elements = append(set.Elements, policy.AddressElement(addr4(n)))
	}
	allow := policy.Rule{Verdict: policy.Allow, AnyPort: true, Peers: []policy.SetID{"s"}}
	return &policy.Program{
		Sets: map[policy.SetID]*policy.Set{"s": set},
		Classes: [2]map[policy.ClassID]*policy.Class{
			{"in": {ID: "in", Tiers: []policy.Tier{{Rules: []policy.Rule{allow}}}}},
			{"out": {ID: "out", Tiers: []policy.Tier{{Else: policy.Allow}}}},
		},
		Endpoints: []policy.Endpoint{{Namespace: "test", Name: "server", Addrs: addrs4(1), Class: [2]policy.ClassID{"in", "out"}}},
	}
}

// lost is the change by which the server no longer admits some.
func lost(from ...byte) *policy.Change {
	c := policy.SetChange{ID: "s"}
	for _, n := range from {
		c.Removed = append(c.Removed, policy.AddressElement(addr4(n)))
	}
	return &policy.Change{Members: []policy.SetChange{c}}
}

func from(n byte) policy.Flow {
	return policy.Flow{Source: addr4(n), Destination: addr4(1), Protocol: policy.TCP, DestinationPort: 80}
}

func remember(flows ...policy.Flow) *memory {
	m := &memory{flows: map[policy.Flow]bool{}}
	for _, f := range flows {
		m.flows[f] = true
	}
	return m
}

func commit(t *testing.T, r *Revoker, p *policy.Program, c *policy.Change) {
	t.Helper()
	if err := r.Commit(p, c, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestTheFirstProgramIsHeldAgainstAllThatPredatesIt(t *testing.T) {
	m := remember(from(2), from(3))
	r := New(m, Options{})
	if r.Recheck(); !r.runRound(t.Context()).Scope.Empty() || len(m.scopes) > 0 {
		t.Error("connections are judged without a program")
	}
	commit(t, r, admitting(2), nil)
	if report := r.runRound(t.Context()); !report.Scope.All || report.Cut[policy.TCP] != 1 || report.Judged != 4 || !m.flows[from(2)] {
		t.Errorf("%+v, left: %v", report, m.flows)
	}
}

func TestAChangeLooksAtItsOwnConnections(t *testing.T) {
	m := remember(from(2), from(3), from(4))
	r := New(m, Options{})
	commit(t, r, admitting(2, 3, 4), nil)
	r.runRound(t.Context())
	commit(t, r, admitting(2, 4), lost(3))
	report := r.runRound(t.Context())
	if report.Scope.All || len(report.Scope.Sides) != 1 || report.Judged != 2 || report.Cut[policy.TCP] != 1 || len(m.flows) != 2 {
		t.Errorf("%+v, left: %v", report, m.flows)
	}
	if report := r.runRound(t.Context()); !report.Scope.Empty() || len(m.scopes) != 2 {
		t.Errorf("once more, for nothing: %+v", report)
	}
}

// A connection that came by a newer program must not be judged by the one before.
func TestAProgramThatComesWhileConnectionsAreReadIsTheOneThatCounts(t *testing.T) {
	m := remember(from(2), from(3))
	r := New(m, Options{})
	once := false
	m.during = func() {
		if !once {
			commit(t, r, admitting(3), nil)
		}
		once = true
	}
	commit(t, r, admitting(), nil)
	if report := r.runRound(t.Context()); report.Cut[policy.TCP] != 1 || !m.flows[from(3)] {
		t.Errorf("%+v, left: %v", report, m.flows)
	}
}

func TestAfterACommitThatFailedEverythingIsJudged(t *testing.T) {
	m := remember(from(2), from(3))
	r := New(m, Options{})
	commit(t, r, admitting(2, 3), nil)
	r.runRound(t.Context())
	failed := errors.New("failed")
	if err := r.Commit(admitting(2), lost(3), func() error { return failed }); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if report := r.runRound(t.Context()); !report.Scope.Empty() {
		t.Errorf("what is in doubt is judged: %+v", report)
	}
	commit(t, r, admitting(2), &policy.Change{})
	if report := r.runRound(t.Context()); !report.Scope.All || m.flows[from(3)] || !m.flows[from(2)] {
		t.Errorf("%+v, left: %v", report, m.flows)
	}
}

func TestWhatFailsIsTriedAgain(t *testing.T) {
	for name, fails := range map[string][]error{
		"reading":  {errors.New("no"), errors.New("no"), nil},
		"deleting": {nil, errors.New("no"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := remember(from(2), from(3))
				var reports []Report
				r := New(m, Options{Report: func(r Report) { reports = append(reports, r) }})
				commit(t, r, admitting(2, 3), nil)
				r.runRound(t.Context())
				m.fails = fails
				commit(t, r, admitting(2), lost(3))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- r.Start(ctx) }()
				synctest.Wait()
				sleepFor(ctx, retryMax)
				failures := slices.IndexFunc(reports, func(r Report) bool { return r.Err == nil })
				if failures < 1 || m.flows[from(3)] || !m.flows[from(2)] {
					t.Errorf("%d failures, left: %v", failures, m.flows)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestOneThatCannotBeCutKeepsNoneOfTheOthers(t *testing.T) {
	m := remember()
	for n := range byte(250) {
		m.flows[from(n+2)] = true
	}
	busy := errors.New("busy")
	r := New(m, Options{})
	commit(t, r, admitting(), nil)
	m.fails = append(make([]error, 121), busy, busy) // after the reading, and the deletion of 60 that come twice
	if report := r.runRound(t.Context()); !errors.Is(report.Err, busy) || report.Cut[policy.TCP] != 249 || len(m.flows) != 1 {
		t.Errorf("%+v, left: %v", report, m.flows)
	}
	if report := r.runRound(t.Context()); report.Err != nil || report.Cut[policy.TCP] != 1 || len(m.flows) > 0 {
		t.Errorf("%+v, left: %v", report, m.flows)
	}
}

// A UDP client that is cut off leaves a one-way entry where its server may send to it, until it is allowed again.
func TestAOneWayEntryLastsUntilTheConnectionIsAllowedAgain(t *testing.T) {
	for protocol, want := range map[policy.Protocol]int{policy.UDP: 1, policy.TCP: 0} {
		f, back := from(3), policy.Flow{Source: addr4(1), Destination: addr4(3), Protocol: protocol, DestinationPort: 40000}
		f.Protocol = protocol
		m := remember()
		m.connections = []Connection{{Flow: f, Back: back}}
		r := New(m, Options{})
		commit(t, r, admitting(2), nil)
		r.runRound(t.Context())
		if len(r.oneWay) != want || len(m.parted) != want {
			t.Errorf("%s: %d one-way entries, %d made", protocol, len(r.oneWay), len(m.parted))
		}
		m.connections, m.deleted = nil, nil
		commit(t, r, admitting(), lost(2))
		r.runRound(t.Context())
		if len(r.oneWay) != want {
			t.Errorf("%s: it is gone though the connection is still denied", protocol)
		}
		commit(t, r, admitting(2, 3), &policy.Change{})
		r.runRound(t.Context())
		if len(r.oneWay) != 0 || len(m.deleted) != want {
			t.Errorf("%s: %d one-way entries of a connection that is allowed, %d deleted", protocol, len(r.oneWay), len(m.deleted))
		}
	}
}
