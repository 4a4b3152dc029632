// Package backend chooses what a node is enforced with. Each kind of backend is a Driver; Drivers lists them.
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/spoof"
)

// Auto is the first driver of the list that the node is set up for.
const Auto = "auto"

// List is the drivers in the order in which Auto asks them.
type List []Driver

// Choice is the backend of a node, and what other drivers may have left there.
type Choice struct {
	Instance
	// Predecessor is nil where no other driver could have left anything.
	Predecessor enforcer.Predecessor
	// OtherSources are the guards against forged sources that an earlier agent may have used instead.
	OtherSources []spoof.Kernel
}

// Names returns all that Open takes.
func (l List) Names() []string {
	out := []string{Auto}
	for _, d := range l {
		out = append(out, d.Names()...)
	}
	return out
}

// Open opens the backend of the name. What another driver left stays in force
// until the caller has put a program in force and cleans it up.
func (l List) Open(ctx context.Context, o Options) (Choice, error) {
	if !slices.Contains(l.Names(), o.Name) {
		return Choice{}, fmt.Errorf("backend %q: want one of %s", o.Name, strings.Join(l.Names(), ", "))
	}
	if o.Name == Auto {
		d := l.detect(ctx)
		if d == nil {
			return Choice{}, errors.New("detect the backend: the node is set up for none")
		}
		o.Name = d.Names()[0]
		o.Log.Info("chose the backend", "backend", o.Name)
	}
	chosen := slices.IndexFunc(l, func(d Driver) bool { return slices.Contains(d.Names(), o.Name) })
	instance, err := l[chosen].Open(ctx, o)
	if err != nil {
		return Choice{}, err
	}
	if instance.Sources == nil || instance.OpenConnections == nil {
		return Choice{}, fmt.Errorf("backend %q guards no sources or opens no connections", o.Name)
	}
	others := slices.Delete(slices.Clone(l), chosen, chosen+1)
	c := Choice{Instance: instance, OtherSources: spoof.Others(instance.Sources, l.SourceGuards())}
	if found, _ := others.openPredecessors(ctx, o.Log); len(found) > 0 {
		c.Predecessor = found
	}
	return c, nil
}

// detect returns the first driver that the node is set up for, or nil.
func (l List) detect(ctx context.Context) Driver {
	for _, d := range l {
		if d.IsPreferred(ctx) {
			return d
		}
	}
	return nil
}

// SourceGuards returns the guards against forged sources of all drivers, each once.
func (l List) SourceGuards() []spoof.Kernel {
	var out []spoof.Kernel
	for _, d := range l {
		for _, k := range d.SourceGuards() {
			if !slices.ContainsFunc(out, func(other spoof.Kernel) bool { return other.Name() == k.Name() }) {
				out = append(out, k)
			}
		}
	}
	return out
}

// Cleanup removes all that any backend of ours left on the node. A backend that
// cannot be used here has left nothing.
func (l List) Cleanup(ctx context.Context, log *slog.Logger) error {
	found, err := l.openPredecessors(ctx, log)
	if len(found) == 0 {
		return fmt.Errorf("no backend can be used: %w", err)
	}
	return errors.Join(spoof.Cleanup(ctx, l.SourceGuards()), found.Cleanup(ctx))
}

// openPredecessors opens what each driver may have left, and returns the errors of those that cannot be used.
func (l List) openPredecessors(ctx context.Context, log *slog.Logger) (predecessors, error) {
	var out predecessors
	var errs []error
	for _, d := range l {
		p, err := d.OpenPredecessor(ctx, log)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, p)
	}
	return out, errors.Join(errs...)
}

// predecessors are all backends that an earlier agent may have used.
type predecessors []enforcer.Predecessor

// Programmed is Predecessor's.
func (p predecessors) Programmed() bool {
	return slices.ContainsFunc(p, enforcer.Predecessor.Programmed)
}

// Cleanup is Predecessor's. A failure of one keeps none of the others from being removed.
func (p predecessors) Cleanup(ctx context.Context) error {
	var errs []error
	for _, one := range p {
		errs = append(errs, one.Cleanup(ctx))
	}
	return errors.Join(errs...)
}
