package delegated

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"
)

const (
	// peerQuestions a second may a peer have asked about tokens that nobody knows, and peerBurst at once.
	peerQuestions, peerBurst = 1, 20
	// manyPeers is of how many the rate is known.
	manyPeers = 1024
)

// peers limits how many unknown tokens come from one peer.
type peers struct {
	clock    clock.Clock
	limiters *cache.LRUExpireCache // *rate.Limiter by netip.Prefix
}

func newPeers(now clock.Clock) *peers {
	return &peers{clock: now, limiters: cache.NewLRUExpireCacheWithClock(manyPeers, now)}
}

// mayAsk reports whether a question may be asked for the address and port of a peer, and counts it.
func (p *peers) mayAsk(remote string) bool {
	peer := network(remote)
	limiter, ok := p.limiters.Get(peer)
	if !ok {
		limiter = rate.NewLimiter(peerQuestions, peerBurst)
	}
	p.limiters.Add(peer, limiter, time.Hour)
	return limiter.(*rate.Limiter).AllowN(p.clock.Now(), 1)
}

// network is an IPv4 address, or the /64 network of an IPv6 address, of which a host has as many as it likes.
func network(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip := at.Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits) // the length fits
	return prefix
}
