package server

import (
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/tierwall/tierwall/webhook/peer"
)

// Bounds of the memory that bodies of concurrent requests use, for one peer and for all. Other requests wait.
const (
	maxBodiesOfPeer = 32 << 20
	maxBodiesOfAll  = 128 << 20
)

// bodyBudget bounds the memory for request bodies, in total and by peer, so that a peer with large requests delays
// only itself.
type bodyBudget struct {
	next http.Handler
	all  *semaphore.Weighted

	mu    sync.Mutex
	peers map[netip.Prefix]*peerBudget
}

// peerBudget is the budget of a peer with concurrent requests.
type peerBudget struct {
	*semaphore.Weighted
	requests int
}

func newBodyBudget(next http.Handler) *bodyBudget {
	return &bodyBudget{next: next, all: semaphore.NewWeighted(maxBodiesOfAll), peers: map[netip.Prefix]*peerBudget{}}
}

func (b *bodyBudget) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	size := r.ContentLength
	if size > maxBody {
		http.Error(w, http.StatusText(http.StatusRequestEntityTooLarge), http.StatusRequestEntityTooLarge)
		return
	}
	if size < 0 { // unknown
		size = maxBody
	}
	sender := peer.NetworkOf(r.RemoteAddr)
	budget := b.acquireBudget(sender)
	defer b.releaseBudget(sender)
	if err := budget.Acquire(r.Context(), size); err != nil {
		return // the peer is gone
	}
	defer budget.Release(size)
	if err := b.all.Acquire(r.Context(), size); err != nil {
		return
	}
	defer b.all.Release(size)
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	b.next.ServeHTTP(w, r)
}

func (b *bodyBudget) acquireBudget(sender netip.Prefix) *peerBudget {
	b.mu.Lock()
	defer b.mu.Unlock()
	budget := b.peers[sender]
	if budget == nil {
		budget = &peerBudget{Weighted: semaphore.NewWeighted(maxBodiesOfPeer)}
		b.peers[sender] = budget
	}
	budget.requests++
	return budget
}

func (b *bodyBudget) releaseBudget(sender netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.peers[sender].requests--; b.peers[sender].requests == 0 {
		delete(b.peers, sender)
	}
}
