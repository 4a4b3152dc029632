package spoof

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tierwall/tierwall/policy"
)

// Kernel drops packets whose source address is not routed to their interface, and packets with link-local addresses, except
// neighbour discovery.
type Kernel interface {
	// Name is equal for those that write the same rules, and for no others.
	Name() string
	// WithAnySource returns a kernel that does not compare sources with the routes; link-local addresses are judged still.
	WithAnySource() Kernel
	// Write guards exactly these interfaces, in one atomic step.
	Write(ctx context.Context, i Interfaces) error
	// Read returns our rules in the kernel, as a text that stays equal while nobody changes them.
	Read(ctx context.Context) (string, error)
	// Whole reports whether a text has everything that Write wrote. How the tools print it differs between versions.
	Whole(text string, i Interfaces) bool
	// Cleanup removes everything of ours.
	Cleanup(ctx context.Context) error
}

const (
	// gatherFor is how long changes are collected. A pod with root can change its interface as fast as it likes.
	gatherFor = 50 * time.Millisecond
	// restFactor is how many times as long as it took to guard the interfaces the next changes are gathered, for
	// maxGather at most, so that changes that come all the time cost a tenth of a core.
	restFactor = 9
	maxGather  = 2 * time.Second
	// compareEvery is the interval between comparisons of the kernel with what was written.
	compareEvery = 10 * time.Second
	// retryMin and retryMax bound the wait after a failure.
	retryMin, retryMax = time.Second, 5 * time.Minute
)

// Guard guards the interfaces of the node's pods.
type Guard struct {
	// Predecessors are kernels that an earlier process may have used. Their rules are removed after the first write.
	Predecessors []Kernel

	kernel       Kernel
	log          *slog.Logger
	program      atomic.Pointer[policy.Program]
	told         chan struct{}
	compareEvery time.Duration

	// guarded are the interfaces that were written last, and left is what Read returned afterwards; both are valid if
	// written is true.
	guarded Interfaces
	left    string
	written bool
}

// New returns a Guard, which does nothing before the first program.
func New(k Kernel, log *slog.Logger) *Guard {
	return &Guard{kernel: k, log: log, told: make(chan struct{}, 1), compareEvery: compareEvery}
}

// Use switches to the pods of the program without blocking. The program must not be changed afterwards.
func (g *Guard) Use(p *policy.Program) {
	if before := g.program.Swap(p); before != nil && samePods(before, p) {
		return
	}
	select {
	case g.told <- struct{}{}:
	default:
	}
}

// Start guards until ctx ends. The rules stay afterwards.
func (g *Guard) Start(ctx context.Context) error {
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		began := time.Now()
		err := g.followChanges(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > retryMax {
			wait = retryMin
		}
		if errors.Is(err, errMissedChanges) {
			wait = retryMin // interfaces that were not seen are not guarded
			g.log.Warn("interfaces and routes changed faster than they could be followed; reading them again", "err", err)
		} else {
			g.log.Error("anti-spoofing sync failed; retrying", "err", err, "in", wait)
			g.written = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// followChanges guards the interfaces after each change of routes, interfaces and programs, until it fails.
func (g *Guard) followChanges(ctx context.Context) error {
	l, err := openLayout()
	if err != nil {
		return err
	}
	defer l.close()
	compare := time.NewTicker(g.compareEvery)
	defer compare.Stop()
	for {
		start := time.Now()
		if err := g.guardInterfaces(ctx, l); err != nil {
			return err
		}
		gatherTime := gatherTimeAfter(time.Since(start))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-l.failed:
			return fmt.Errorf("watch routes and interfaces: %w", asMissedChanges(err))
		case <-compare.C:
			if err := g.compareKernel(ctx); err != nil {
				return err
			}
		case <-g.told:
		case <-l.links:
			l.gatherChanges(gatherTime)
		case <-l.routes:
			l.gatherChanges(gatherTime)
		}
	}
}

// gatherTimeAfter returns how long to gather changes after guarding the interfaces took so long.
func gatherTimeAfter(took time.Duration) time.Duration {
	return min(max(gatherFor, restFactor*took), maxGather)
}

// gatherChanges takes the notifications of all that changes for a while.
func (l *layout) gatherChanges(d time.Duration) {
	end := time.After(d)
	for {
		select {
		case <-l.links:
		case <-l.routes:
		case <-end:
			return
		}
	}
}

// guardInterfaces guards the interfaces that lead to pods now.
func (g *Guard) guardInterfaces(ctx context.Context, l *layout) error {
	p := g.program.Load()
	if p == nil {
		return nil // the rules of an earlier process stay
	}
	links, routes, err := l.readLayout()
	if err != nil {
		return err
	}
	want := PodInterfaces(links, routes, PodNetworks(p))
	if g.written && want.isEqual(g.guarded) {
		return nil
	}
	if err := g.kernel.Write(ctx, want); err != nil {
		return fmt.Errorf("guard %d interfaces: %w", len(want.All()), err)
	}
	if g.left, err = g.kernel.Read(ctx); err != nil {
		return err
	}
	if !g.kernel.Whole(g.left, want) {
		return errors.New("others change our anti-spoofing rules while they are written")
	}
	g.log.Debug("guarded", "own", want.Own, "shared", want.Shared, "new", len(want.New))
	guardedInterfaces.Set(float64(len(want.Guarded())))
	g.guarded, g.written = want, true
	g.cleanUpPredecessors(ctx)
	return nil
}

// cleanUpPredecessors removes the rules of the predecessors.
func (g *Guard) cleanUpPredecessors(ctx context.Context) {
	if err := Cleanup(ctx, g.Predecessors); err != nil {
		g.log.Warn("removing the anti-spoofing rules of an earlier agent failed", "err", err)
		return
	}
	g.Predecessors = nil
}

// compareKernel schedules a rewrite if others changed our rules.
func (g *Guard) compareKernel(ctx context.Context) error {
	if !g.written {
		return nil
	}
	text, err := g.kernel.Read(ctx)
	if err != nil || text == g.left {
		return err
	}
	g.log.Warn("others changed our anti-spoofing rules; repaired")
	g.written = false
	return nil
}

// samePods reports whether a program shares the endpoints of another. Most changes do not change the node's pods.
func samePods(a, b *policy.Program) bool {
	same := len(a.Endpoints) == len(b.Endpoints) && (len(a.Endpoints) == 0 || &a.Endpoints[0] == &b.Endpoints[0])
	return same && slices.Equal(a.Local, b.Local)
}

// PodNetworks returns a function that reports whether a network belongs to pods of the program: a known address, one of the
// node's pod networks or a part of it, or a network with an endpoint in it.
func PodNetworks(p *policy.Program) func(netip.Prefix) bool {
	known, nodes := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, e := range p.Endpoints {
		for _, a := range e.Addrs {
			known[a] = true
		}
	}
	for _, h := range p.Hosts {
		for _, a := range h.Addrs {
			nodes[a] = true
		}
	}
	return func(to netip.Prefix) bool {
		a := to.Addr()
		local := slices.ContainsFunc(p.Local, func(n netip.Prefix) bool { return n.Bits() <= to.Bits() && n.Contains(a) })
		if to.IsSingleIP() {
			return known[a] || !nodes[a] && local
		}
		return local || to.Bits() > 0 && slices.ContainsFunc(p.Endpoints, func(e policy.Endpoint) bool { return slices.ContainsFunc(e.Addrs, to.Contains) })
	}
}

// Others returns all kernels but this one.
func Others(k Kernel, all []Kernel) []Kernel {
	return slices.DeleteFunc(slices.Clone(all), func(other Kernel) bool { return other.Name() == k.Name() })
}

// Cleanup removes what these kernels hold of ours. A tool that is missing has made nothing.
func Cleanup(ctx context.Context, all []Kernel) error {
	var errs []error
	for _, k := range all {
		errs = append(errs, k.Cleanup(ctx))
	}
	return errors.Join(errs...)
}
