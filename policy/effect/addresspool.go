package effect

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy/compile"
)

// reserved are the networks that addresses come from when nodes have no pod CIDRs (RFC 1112, section 4; RFC 6666).
var reserved = []netip.Prefix{netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("100::/64")}

// addressPool hands out addresses for representatives of pods without one. They come from the pod CIDRs where these
// are known, so that policies about those networks match them. Networks within a pod CIDR are avoided, because they
// are about certain pods only.
type addressPool struct {
	used  [2]bool // IP families that the cluster has
	pools [2][]netip.Prefix
	avoid prefixIndex
	next  [2]netip.Addr
	taken map[netip.Addr]bool
	nodes *compile.NodeNetworks
}

func newAddressPool(snapshots [2]*compile.Snapshot, networks []netip.Prefix) *addressPool {
	a := &addressPool{taken: map[netip.Addr]bool{}, nodes: compile.NewNodeNetworks(snapshots[stateAfter].Nodes)}
	for _, s := range snapshots {
		for _, p := range s.Pods {
			for _, addr := range p.Addrs {
				a.used[familyOf(addr.Unmap())] = true
			}
		}
		for _, n := range s.Nodes {
			for _, p := range n.PodCIDRs {
				if p.IsValid() {
					f := familyOf(p.Addr())
					a.pools[f], a.used[f] = append(a.pools[f], p.Masked()), true
				}
			}
		}
	}
	if !a.used[0] && !a.used[1] {
		a.used = [2]bool{true, true}
	}
	for _, f := range families {
		slices.SortFunc(a.pools[f], netip.Prefix.Compare)
		a.pools[f] = slices.Compact(a.pools[f])
		var pools prefixIndex
		for i, p := range a.pools[f] {
			pools.addPrefix(p, i)
		}
		for _, n := range networks {
			if familyOf(n.Addr()) == f && pools.containsWider(n) {
				a.avoid.addPrefix(n, 0)
			}
		}
		a.pools[f] = append(a.pools[f], reserved[f])
		a.next[f] = a.pools[f][0].Addr()
	}
	return a
}

// nextAddress returns an address of the family that no pod has.
func (a *addressPool) nextAddress(f int) netip.Addr {
	for {
		for len(a.pools[f]) > 1 && !a.pools[f][0].Contains(a.next[f]) {
			a.pools[f] = a.pools[f][1:]
			a.next[f] = a.pools[f][0].Addr()
		}
		addr := a.next[f]
		a.next[f] = addr.Next()
		if hole, found := a.avoid.widestContaining(addr); found {
			a.next[f] = lastAddress(hole).Next()
			continue
		}
		if a.taken[addr] {
			continue
		}
		a.taken[addr] = true
		return addr
	}
}
