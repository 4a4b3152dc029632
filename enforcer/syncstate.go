package enforcer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/tierwall/tierwall/policy"
)

// syncState tracks which changes were requested, compiled and applied.
type syncState struct {
	mu sync.Mutex
	// asked counts requests. The loop read the cluster for the first taken of them, and what it read for the first enforced
	// is in force.
	asked, taken, enforced uint64
	// program is in force.
	program *policy.Program
	// news is closed, and replaced, when something comes in force.
	news chan struct{}
	// wake makes the loop read the cluster without a notification of a change.
	wake chan struct{}
}

// wakeups returns a channel that receives when the loop shall read the cluster.
func (s *syncState) wakeups() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	return s.wake
}

// addRequest counts a caller that waits for the current state of the cluster, and wakes the loop.
func (s *syncState) addRequest() uint64 {
	s.mu.Lock()
	s.asked++
	number := s.asked
	s.mu.Unlock()
	select {
	case s.wakeups() <- struct{}{}:
	default: // a wake-up is pending already
	}
	return number
}

// markTaken records that the loop is about to read the cluster.
func (s *syncState) markTaken() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = s.asked
}

// markEnforced records that everything that was read is in force, as the program.
func (s *syncState) markEnforced(p *policy.Program) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.program, s.enforced = p, s.taken
	if s.news != nil {
		close(s.news)
		s.news = nil
	}
}

// programInForce returns the program that came in force last; nil before the first.
func (s *syncState) programInForce() *policy.Program {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.program
}

// awaitedProgram returns the program if it serves the request, and a channel that is closed when another comes in force.
func (s *syncState) awaitedProgram(number uint64) (*policy.Program, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.news == nil {
		s.news = make(chan struct{})
	}
	if s.enforced < number {
		return nil, s.news
	}
	return s.program, s.news
}

// Await blocks until the current state of the source is in force, and with it the rules of the pod with these addresses on
// this node. If ctx ends first, the error says what is missing.
func (e *Enforcer) Await(ctx context.Context, namespace, name string, addrs []netip.Addr) error {
	number := e.syncState.addRequest()
	for {
		program, news := e.syncState.awaitedProgram(number)
		missing := missingRules(program, e.InForce(), namespace, name, addrs)
		if missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", missing, ctx.Err())
		case <-news:
		}
	}
}

// missingRules returns why the rules of the pod are not in force; nil if they are.
func missingRules(p *policy.Program, inForce bool, namespace, name string, addrs []netip.Addr) error {
	if p == nil || !inForce {
		return fmt.Errorf("the program with pod %s/%s is not in force yet", namespace, name)
	}
	for _, addr := range addrs {
		i := slices.IndexFunc(p.Endpoints, func(e policy.Endpoint) bool { return slices.Contains(e.Addrs, addr) })
		if i < 0 {
			return fmt.Errorf("no endpoint in the program has address %v of pod %s/%s", addr, namespace, name)
		}
		if e := p.Endpoints[i]; e.Namespace != namespace || e.Name != name {
			return fmt.Errorf("address %v of pod %s/%s belongs to pod %s in the API server", addr, namespace, name, e.Key())
		}
	}
	return nil
}
