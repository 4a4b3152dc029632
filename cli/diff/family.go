package diff

import (
	"net/netip"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// FamiliesOf reports whether pods of a cluster have addresses of IPv4 and of IPv6, as far as pods and nodes say.
func FamiliesOf(snapshots ...*compile.Snapshot) (out [2]bool) {
	note := func(a netip.Addr) {
		if a = a.Unmap(); a.IsValid() {
			out[0], out[1] = out[0] || a.Is4(), out[1] || a.Is6()
		}
	}
	for _, s := range snapshots {
		for _, p := range s.Pods {
			if p.HostNetwork || p.Ended {
				continue
			}
			for _, a := range p.Addrs {
				note(a)
			}
		}
		for _, n := range s.Nodes {
			for _, p := range n.PodCIDRs {
				note(p.Addr())
			}
		}
	}
	return out
}

// withoutAbsentFamily leaves out rows of networks of a family that no pod has addresses of, and counts them.
func withoutAbsentFamily(e effect.Effect, families [2]bool) (effect.Effect, int) {
	if families[0] == families[1] {
		return e, 0
	}
	n := 0
	keep := func(rows []effect.Row) (out []effect.Row) {
		for _, r := range rows {
			if isOfFamily(r.From, families) && isOfFamily(r.To, families) {
				out = append(out, r)
			} else {
				n++
			}
		}
		return out
	}
	e.Added, e.Removed = keep(e.Added), keep(e.Removed)
	return e, n
}

// isOfFamily reports whether a side is no network, or one of a family that pods have.
func isOfFamily(p effect.Peer, families [2]bool) bool {
	if p.Kind != effect.CIDR {
		return true
	}
	network, err := netip.ParsePrefix(p.Name)
	return err != nil || network.Addr().Is4() && families[0] || network.Addr().Is6() && families[1]
}

func absentFamily(families [2]bool) string {
	if families[0] {
		return "IPv6"
	}
	return "IPv4"
}
