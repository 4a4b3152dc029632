//go:build netns

package backendtest

import (
	"context"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/netns"
)

// Backend is what tests do with a backend on a node.
type Backend interface {
	Apply(ctx context.Context, p *policy.Program) error
	Update(ctx context.Context, c *policy.Change) error
	Repair(ctx context.Context) (bool, error)
	Cleanup(ctx context.Context) error
}

// Node is the kernel of a node, in a network namespace.
type Node[B Backend] struct {
	*netns.Space
	T testing.TB
	// New opens a backend in the calling thread's namespace, as after a restart.
	New func() (B, error)
}

// Must runs f in the node's namespace, without failure.
func (n Node[B]) Must(f func() error) {
	n.T.Helper()
	if err := n.Do(f); err != nil {
		n.T.Fatal(err)
	}
}

// Open opens a backend, as after a restart.
func (n Node[B]) Open() (b B) {
	n.T.Helper()
	n.Must(func() (err error) {
		b, err = n.New()
		return err
	})
	return b
}

// Apply puts a program in force.
func (n Node[B]) Apply(b B, p *policy.Program) {
	n.T.Helper()
	n.Must(func() error { return b.Apply(n.T.Context(), p) })
}

// Update puts a change in force.
func (n Node[B]) Update(b B, c *policy.Change) {
	n.T.Helper()
	n.Must(func() error { return b.Update(n.T.Context(), c) })
}

// Repair repairs the node, and reports whether there was damage.
func (n Node[B]) Repair(b B) (changed bool) {
	n.T.Helper()
	n.Must(func() (err error) {
		changed, err = b.Repair(n.T.Context())
		return err
	})
	return changed
}

// Cleanup removes everything from the node.
func (n Node[B]) Cleanup(b B) {
	n.T.Helper()
	n.Must(func() error { return b.Cleanup(n.T.Context()) })
}

// VerifyRepair damages the rules of sample.Shop once they are in force. Contents is what is the backend's in the kernel.
func VerifyRepair[B Backend](t *testing.T, n Node[B], contents func() string, damage func()) {
	t.Helper()
	b := n.Open()
	n.Apply(b, sample.Shop())
	if n.Repair(b) {
		t.Error("there was nothing to mend")
	}
	before := contents()
	damage()
	if contents() == before {
		t.Fatal("no damage was done")
	}
	if !n.Repair(b) {
		t.Error("the damage was not reported")
	}
	if after := contents(); after != before {
		t.Errorf("before\n%s\nmended\n%s", before, after)
	}
	if n.Repair(b) {
		t.Error("mended twice")
	}
}

// VerifyCleanup checks that a cleanup leaves what was there before, by the backend that wrote and by a new one.
func VerifyCleanup[B Backend](t *testing.T, n Node[B], dump func() string, isWritten func(dump string) bool) {
	t.Helper()
	before := dump()
	b := n.Open()
	n.Cleanup(b) // nothing
	n.Apply(b, sample.Shop())
	if !isWritten(dump()) {
		t.Fatal("nothing was written")
	}
	n.Cleanup(b)
	if after := dump(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	n.Apply(b, sample.Shop())
	n.Cleanup(n.Open())
	if after := dump(); after != before {
		t.Errorf("before\n%s\nafter the second time\n%s", before, after)
	}
}
