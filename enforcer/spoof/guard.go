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

// Kernel drops what comes by interfaces from addresses to which no route leads back by them, and what has link-local
// addresses but neighbour discovery.
type Kernel interface {
	// Name is equal for those that write the same rules, and for no others.
	Name() string
	// WithAnySource returns a kernel that does not compare sources with the routes; link-local addresses are judged still.
	WithAnySource() Kernel
	// Write has these interfaces guarded and no others, at one moment.
	Write(ctx context.Context, i Interfaces) error
	// Read is what the kernel holds of ours, as text that is equal as long as nobody changes it.
	Read(ctx context.Context) (string, error)
	// Whole reports whether a text can be what Write left: whether nothing is missing. How the
	// tools print what was written differs from one version to the other.
	Whole(text string, i Interfaces) bool
	// Cleanup removes all that is ours.
	Cleanup(ctx context.Context) error
}

const (
	// gatherFor is how long changes are gathered. Whoever is root in a pod can make
	// them, by its own interface, as fast as it likes.
	gatherFor = 50 * time.Millisecond
	// restFactor is how many times as long as it took to guard the interfaces the next changes are gathered, for
	// maxGather at most, so that changes that come all the time cost a tenth of a core.
	restFactor = 9
	maxGather  = 2 * time.Second
	// compareEvery is how often the kernel is compared with what was written.
	compareEvery = 10 * time.Second
	// retryMin and retryMax bound the wait after a failure.
	retryMin, retryMax = time.Second, 5 * time.Minute
)

// Guard keeps the interfaces guarded that are one pod's own.
type Guard struct {
	// Predecessors may guard from an earlier process. What they hold is removed after the first write.
	Predecessors []Kernel

	kernel       Kernel
	log          *slog.Logger
	program      atomic.Pointer[policy.Program]
	told         chan struct{}
	compareEvery time.Duration

	// guarded are the interfaces that were written last, and left is what the kernel held
	// then; written says that there is such a time.
	guarded Interfaces
	left    string
	written bool
}

// New makes a guard, which does nothing before the first program.
func New(k Kernel, log *slog.Logger) *Guard {
	return &Guard{kernel: k, log: log, told: make(chan struct{}, 1), compareEvery: compareEvery}
}

// Use takes the pods from this program from now on. It never waits. The program must not
// be changed afterwards.
func (g *Guard) Use(p *policy.Program) {
	if before := g.program.Swap(p); before != nil && samePods(before, p) {
		return
	}
	select {
	case g.told <- struct{}{}:
	default:
	}
}

// Start guards until ctx ends. What is guarded then stays so.
func (g *Guard) Start(ctx context.Context) error {
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		began := time.Now()
		err := g.follow(ctx)
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

// follow keeps up with routes, interfaces and programs until it fails.
func (g *Guard) follow(ctx context.Context) error {
	l, err := openLayout()
	if err != nil {
		return err
	}
	defer l.close()
	compare := time.NewTicker(g.compareEvery)
	defer compare.Stop()
	for {
		start := time.Now()
		if err := g.settle(ctx, l); err != nil {
			return err
		}
		gatherTime := gatherTimeAfter(time.Since(start))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-l.failed:
			return fmt.Errorf("following routes and interfaces: %w", asMissedChanges(err))
		case <-compare.C:
			if err := g.compare(ctx); err != nil {
				return err
			}
		case <-g.told:
		case <-l.links:
			l.gather(gatherTime)
		case <-l.routes:
			l.gather(gatherTime)
		}
	}
}

// gatherTimeAfter returns how long to gather changes after guarding the interfaces took so long.
func gatherTimeAfter(took time.Duration) time.Duration {
	return min(max(gatherFor, restFactor*took), maxGather)
}

// gather takes the notifications of all that changes for a while.
func (l *layout) gather(d time.Duration) {
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

// settle has those interfaces guarded that are a pod's own now.
func (g *Guard) settle(ctx context.Context, l *layout) error {
	p := g.program.Load()
	if p == nil {
		return nil // what an earlier process guarded stays so
	}
	links, routes, err := l.read()
	if err != nil {
		return err
	}
	want := PodInterfaces(links, routes, PodNetworks(p))
	if g.written && want.equal(g.guarded) {
		return nil
	}
	if err := g.kernel.Write(ctx, want); err != nil {
		return fmt.Errorf("guarding %d interfaces: %w", len(want.All()), err)
	}
	if g.left, err = g.kernel.Read(ctx); err != nil {
		return err
	}
	if !g.kernel.Whole(g.left, want) {
		return errors.New("somebody changes our rules about sources while they are written")
	}
	g.log.Debug("guarded", "own", want.Own, "shared", want.Shared, "new", len(want.New))
	guarded.Set(float64(len(want.Guarded())))
	g.guarded, g.written = want, true
	g.succeed(ctx)
	return nil
}

// succeed removes what the predecessors hold, now that it is not needed any more.
func (g *Guard) succeed(ctx context.Context) {
	if err := Cleanup(ctx, g.Predecessors); err != nil {
		g.log.Warn("could not remove all rules about sources that an earlier agent left", "err", err)
		return
	}
	g.Predecessors = nil
}

// compare has everything written anew if somebody changed it.
func (g *Guard) compare(ctx context.Context) error {
	if !g.written {
		return nil
	}
	text, err := g.kernel.Read(ctx)
	if err != nil || text == g.left {
		return err
	}
	g.log.Warn("somebody changed our rules about sources; mended")
	g.written = false
	return nil
}

// samePods reports whether a program has the pods of the one that it was made of. Most changes
// are about none of the node's pods, and leave the list as it is.
func samePods(a, b *policy.Program) bool {
	same := len(a.Endpoints) == len(b.Endpoints) && (len(a.Endpoints) == 0 || &a.Endpoints[0] == &b.Endpoints[0])
	return same && slices.Equal(a.Local, b.Local)
}

// PodNetworks returns a function that reports whether a network is pods' of the program: an address that is known, or one of the node's networks
// for pods or a part of it, or a network with an endpoint in it.
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
