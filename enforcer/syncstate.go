package enforcer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/tierwall/tierwall/policy"
)

// standing is what those who wait for the loop see of it.
type standing struct {
	mu sync.Mutex
	// asked are those who have asked so far; up to taken the loop has looked at the cluster for, and what
	// it saw then for those up to enforced is in force.
	asked, taken, enforced uint64
	// program is in force.
	program *policy.Program
	// news is closed, and another made, when something came in force.
	news chan struct{}
	// wake has the loop look at the cluster although nothing is said to have changed.
	wake chan struct{}
}

// woken receives when the loop is to look.
func (s *standing) woken() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	return s.wake
}

// ask counts somebody who waits for what the cluster shows now.
func (s *standing) ask() uint64 {
	s.mu.Lock()
	s.asked++
	number := s.asked
	s.mu.Unlock()
	select {
	case s.woken() <- struct{}{}:
	default: // it will look in any case
	}
	return number
}

// take says that the loop is about to look at the cluster.
func (s *standing) take() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = s.asked
}

// enforce says that all that was taken is in force, as the program.
func (s *standing) enforce(p *policy.Program) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.program, s.enforced = p, s.taken
	if s.news != nil {
		close(s.news)
		s.news = nil
	}
}

// inForce is the program that came in force last; nil before the first.
func (s *standing) inForce() *policy.Program {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.program
}

// look is what the one with this number waits for: the program, or nil and when to look again.
func (s *standing) look(number uint64) (*policy.Program, <-chan struct{}) {
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

// Await blocks until all that the source shows now is in force, and with it the rules of the pod
// with these addresses on this node. When ctx ends first, the error says what was missing.
func (e *Enforcer) Await(ctx context.Context, namespace, name string, addrs []netip.Addr) error {
	number := e.standing.ask()
	for {
		program, news := e.standing.look(number)
		missing := absence(program, e.InForce(), namespace, name, addrs)
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

// absence says why the rules of the pod are not in force; nil where they are.
func absence(p *policy.Program, inForce bool, namespace, name string, addrs []netip.Addr) error {
	if p == nil || !inForce {
		return fmt.Errorf("the program that has pod %s/%s in it could not be put in force yet", namespace, name)
	}
	for _, addr := range addrs {
		i := slices.IndexFunc(p.Endpoints, func(e policy.Endpoint) bool { return slices.Contains(e.Addrs, addr) })
		if i < 0 {
			return fmt.Errorf("address %v of pod %s/%s is nobody's", addr, namespace, name)
		}
		if e := p.Endpoints[i]; e.Namespace != namespace || e.Name != name {
			return fmt.Errorf("address %v of pod %s/%s is that of pod %s, which the API server shows with it", addr, namespace, name, e.Key())
		}
	}
	return nil
}
