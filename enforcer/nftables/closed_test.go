package nftables

import (
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/nftables/simulator"
	"github.com/tierwall/tierwall/policy"
)

// A class that the kernel does not take is closed; every other comes in force, also with the next change.
func TestAClassThatTheKernelRefusesIsClosedAlone(t *testing.T) {
	type flow struct {
		from, to string
		port     uint16
	}
	frontend, data := flow{"198.51.100.7", "10.1.0.2", 80}, flow{"10.1.0.3", "10.1.0.4", 5432}
	web := flow{"10.1.0.2", "10.1.0.3", 8080}
	for refused, open := range map[string]map[flow]bool{
		"in4-front": {frontend: false, data: true, web: true},
		"in4-data":  {frontend: true, data: false, web: true},
		"eg4-named": {frontend: true, data: true, web: false},
		"nothing":   {frontend: true, data: true, web: true},
	} {
		for _, late := range []bool{false, true} {
			k := newFakeKernel()
			b, err := newBackend(t.Context(), Options{Log: slog.New(slog.DiscardHandler)}, k)
			if err != nil {
				t.Fatal(err)
			}
			if late { // the class comes with a change
				if err := b.Apply(t.Context(), &policy.Program{Local: sample.Shop().Local, Hosts: sample.Shop().Hosts}); err != nil {
					t.Fatal(err)
				}
			}
			k.refuse = refused
			if err := b.Apply(t.Context(), sample.Shop()); err != nil {
				t.Fatalf("%s refused: %v", refused, err)
			}
			come := &policy.Change{Members: []policy.SetChange{{ID: "front", Added: []policy.Element{policy.AddressElement(address("10.3.0.1"))}}}}
			if err := b.Update(t.Context(), come); err != nil {
				t.Fatalf("%s refused, a change after it: %v", refused, err)
			}
			for f, passes := range open {
				packet := simulator.Packet{Source: address(f.from), Destination: address(f.to), Protocol: policy.TCP, DestinationPort: f.port}
				if v, err := k.held.Judge("forward", packet); err != nil || v.Accepted != passes {
					t.Errorf("%s refused, late %v: %+v accepted: %v (%v), by %v", refused, late, f, v.Accepted, err, v.Trace)
				}
			}
			if changed, err := b.Repair(t.Context()); changed || err != nil {
				t.Errorf("%s refused, late %v: the kernel is not as written (%v)", refused, late, err)
			}
			if got := len(b.Problems()); (got == 0) != (refused == "nothing") {
				t.Errorf("%s refused: the problems are %v", refused, b.Problems())
			}
			k.refuse = ""
			for range retryEvery {
				if changed, err := b.Repair(t.Context()); changed || err != nil {
					t.Errorf("%s refused: repaired %v (%v)", refused, changed, err)
				}
			}
			if len(b.Problems()) > 0 {
				t.Errorf("%s refused before: the problems are %v", refused, b.Problems())
			}
			for f := range open {
				packet := simulator.Packet{Source: address(f.from), Destination: address(f.to), Protocol: policy.TCP, DestinationPort: f.port}
				if v, err := k.held.Judge("forward", packet); err != nil || !v.Accepted {
					t.Errorf("%s refused before, late %v: %+v is not accepted (%v), by %v", refused, late, f, err, v.Trace)
				}
			}
		}
	}
}

// A class that cannot be rendered, for want of a set, is closed alone, until the set is there.
func TestAClassOfAMissingSetIsClosedAlone(t *testing.T) {
	for _, missing := range []policy.SetID{"world", "web", "front"} {
		k := newFakeKernel()
		b, err := newBackend(t.Context(), Options{Log: slog.New(slog.DiscardHandler)}, k)
		if err != nil {
			t.Fatal(err)
		}
		p := sample.Shop()
		delete(p.Sets, missing)
		if err := b.Apply(t.Context(), p); err != nil {
			t.Fatalf("set %s is missing: %v", missing, err)
		}
		if got := len(b.Problems()); got != 1 {
			t.Errorf("set %s is missing: the problems are %v", missing, b.Problems())
		}
		packet := simulator.Packet{Source: address("10.1.0.3"), Destination: address("10.1.0.4"), Protocol: policy.TCP, DestinationPort: 5432}
		if v, err := k.held.Judge("forward", packet); err != nil || !v.Accepted {
			t.Errorf("set %s is missing: a flow of other classes is not accepted (%v), by %v", missing, err, v.Trace)
		}
		if err := b.Apply(t.Context(), sample.Shop()); err != nil {
			t.Fatal(err)
		}
		for range retryEvery {
			if _, err := b.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(b.Problems()) > 0 {
			t.Errorf("set %s is there again: the problems are %v", missing, b.Problems())
		}
	}
}

// What nft prints of a command that was refused leads to a chain or a set; what others change does not.
func TestWhatNftPrintsOfARefusal(t *testing.T) {
	for text, want := range map[string][]string{
		"/dev/stdin:5:1-83: Error: Could not process rule: Too many links\nadd rule inet tierwall in4-front drop\n^^^":                 {"in4-front"},
		"/dev/stdin:7:1-9: Error: Could not process rule: Invalid argument\nadd element inet tierwall set4-a.1 { 10.0.0.1 }\n^^^":      {"set4-a.1"},
		"/dev/stdin:7:1-9: Error: Could not process rule: No such file or directory\nadd element inet tierwall set4-a { ::1 }\n^^^":    nil,
		"/dev/stdin:7:1-9: Error: Could not process rule: Too many links\nadd rule inet other chain comment \"inet tierwall x\"\n^^^^": nil,
		"killed: nft did not end within 30s": nil,
	} {
		if got := refusedNames(errors.New(text)); !slices.Equal(got, want) {
			t.Errorf("%q is about %v, want %v", text, got, want)
		}
	}
}
