package nftables

import (
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/packet"
	"github.com/tierwall/tierwall/enforcer/nftables/simulator"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// settled sees that no set of ranges comes into force in the transaction that makes it, or changes while
// rules refer to it: some kinds switch to new elements a moment after everything else.
func settled(t testing.TB, now *simulator.Table, script string) {
	t.Helper()
	inForce := now.InForce()
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		made := strings.HasPrefix(line, "add set ") || strings.HasPrefix(line, "add map ")
		if made && strings.Contains(line, "flags interval") && inForce[words[4]] {
			t.Fatalf("%s is new in the transaction that puts it in force:\n%s", words[4], script)
		}
	}
}

// fakeNode is a backend on a fake kernel.
type fakeNode struct {
	*fakeKernel
	backend *Backend
	program *policy.Program
	t       testing.TB
	// ways counts the changes by the way in which they were made.
	ways map[updateStrategy]int
}

func newFakeNode(t testing.TB, ways map[updateStrategy]int) *fakeNode {
	k := newFakeKernel()
	return &fakeNode{fakeKernel: k, backend: backendOn(t, k), t: t, ways: ways}
}

// Apply is Kernel's.
func (n *fakeNode) Apply(t testing.TB, p *policy.Program) {
	t.Helper()
	if n.program != nil {
		n.count(p, transition.ChangeBetween(n.program, p))
	}
	if err := n.backend.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	n.program = p
}

// Update is Kernel's.
func (n *fakeNode) Update(t testing.TB, next *policy.Program, c *policy.Change) {
	t.Helper()
	n.count(next, c)
	if err := n.backend.Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	n.program = next
}

func (n *fakeNode) count(next *policy.Program, c *policy.Change) {
	n.ways[chooseStrategy(n.program, next, c, usersOf(n.program, c))]++
}

// maxMoments is how many moments of a packet's way are tried at most at which a transaction takes effect.
const maxMoments = 12

// Observe is Kernel's.
func (n *fakeNode) Observe(f func(backendtest.Step)) {
	n.watch = nil
	if f == nil {
		return
	}
	n.watch = func(before, after *simulator.Table, script string) {
		settled(n.t, after, script)
		f(backendtest.Step{Written: script, Judge: func(flow policy.Flow) (out []packet.Verdict, err error) {
			for moment := range maxMoments {
				v, err := before.JudgeDuring(after, moment, packet.Forward, packet.FirstOf(flow))
				out = append(out, v)
				if err != nil || moment >= v.Lookups {
					return out, err
				}
			}
			return out, nil
		}})
	}
}

// Judge is Kernel's.
func (n *fakeNode) Judge(f policy.Flow) (packet.Verdict, error) {
	return n.held.Judge(packet.Forward, packet.FirstOf(f))
}

// Verify is Kernel's.
func (n *fakeNode) Verify(t testing.TB) {
	t.Helper()
	if changed, err := n.backend.Repair(t.Context()); changed || err != nil {
		t.Fatalf("after a change the kernel is not as written (%v)", err)
	}
	fresh := newFakeKernel()
	if err := backendOn(t, fresh).Apply(t.Context(), n.program); err != nil {
		t.Fatal(err)
	}
	if got, want := n.contents(n.backend.state.slots), fresh.contents(transition.Slots{}); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

// Slots is Kernel's.
func (n *fakeNode) Slots() transition.Slots { return n.backend.state.slots }

func TestNoFlowIsOpenedOrCutForAMoment(t *testing.T) {
	ways := map[updateStrategy]int{}
	backendtest.VerifyUpdates(t, func() backendtest.Kernel { return newFakeNode(t, ways) }, 200)
	t.Logf("beside, in place, in turn: %v", ways)
	for _, way := range []updateStrategy{shadowCopy, inPlace, twoPhase} {
		if ways[way] < 20 {
			t.Errorf("one of the ways was hardly taken: %v", ways)
		}
	}
}

func TestNoFlowIsOpenedOrCutWhileOneClassFollowsAnother(t *testing.T) {
	backendtest.VerifyClassChanges(t, func() backendtest.Kernel { return newFakeNode(t, map[updateStrategy]int{}) }, 400, 8)
}

func TestTheBackendFollowsTheIncrementalCompiler(t *testing.T) {
	backendtest.VerifyIncremental(t, func() backendtest.Kernel { return newFakeNode(t, map[updateStrategy]int{}) })
}
