package effect

import (
	"net/netip"

	"github.com/tierwall/tierwall/policy/compile"
)

// representative stands for a group in the compiled programs. It is one pod, with an address of each IP family that
// the cluster has.
type representative struct {
	*podGroup
	addrs [2]netip.Addr
}

// newRepresentatives returns a representative of each group, with the addresses of one of its pods if it owns any,
// else with unused ones.
func newRepresentatives(groups []*podGroup, a *addressPool) []*representative {
	out := make([]*representative, len(groups))
	var claimants []*representative
	for i, g := range groups {
		out[i] = &representative{podGroup: g}
		if g.claim.Pod != nil {
			claimants = append(claimants, out[i])
		}
	}
	owners := map[netip.Addr]*representative{}
	for _, s := range claimants {
		for _, addr := range s.claim.Pod.Addrs {
			addr = addr.Unmap()
			claim, other := a.nodes.Claim(s.claim.Pod, addr), owners[addr]
			if claim.Place != compile.Unusable && (other == nil || claim.Compare(a.nodes.Claim(other.claim.Pod, addr)) < 0) {
				owners[addr] = s
			}
		}
	}
	for addr, s := range owners {
		a.taken[addr], s.addrs[familyOf(addr)] = true, addr
	}
	for _, s := range out {
		if s.addrs != [2]netip.Addr{} {
			continue
		}
		for _, f := range families {
			if a.used[f] {
				s.addrs[f] = a.nextAddress(f)
			}
		}
	}
	return out
}

func (s *representative) syntheticPod(m clusterState, name string) *compile.Pod {
	p := *s.kinds[m].like
	p.Name, p.UID, p.Node, p.Addrs = name, "", "", nil
	p.HostNetwork, p.Ended, p.Terminating, p.Created, p.Representative = false, false, false, 0, true
	for _, addr := range s.addrs {
		if addr.IsValid() {
			p.Addrs = append(p.Addrs, addr)
		}
	}
	return &p
}
