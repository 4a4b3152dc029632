package iptables

import (
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// Strays are packets of a connection that connection tracking does not know, and
// that do not open one (RFC 9293, section 3.5; RFC 9260, section 5.1). Tracking would
// take a connection up from one, in the direction in which it happens to go: the
// next word of a server whose client was cut off would make the client's connection
// one from the server, and it would live on. So an endpoint that policy applies to
// neither sends nor gets strays. Packets that are not tracked are not strays.
const (
	strayTCP  = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate INVALID,NEW "
	straySCTP = "-p sctp -m sctp ! --chunk-types any INIT -m conntrack --ctstate INVALID,NEW "
	toStray   = "-g " + strayChain
)

// isOpen reports whether everything passes to the endpoint in both directions. No
// connection is ever cut for its sake, and its strays pass.
func (r *renderer) isOpen(e policy.Endpoint) bool {
	for _, d := range policy.Directions {
		c := r.program.Classes[d][e.Class[d]]
		if c == nil || len(c.Tiers) != 1 || len(c.Tiers[0].Rules) > 0 || !c.Tiers[0].Else.Permits() {
			return false
		}
	}
	return true
}

// toClass leads to the chain of an endpoint's class, if it needs one.
func (r *renderer) toClass(e policy.Endpoint, d policy.Direction) string {
	if r.isOpen(e) {
		return r.targetOf(d, r.program.Classes[d][e.Class[d]].Tiers[0].Else, "")
	}
	return "-g " + r.names.chainName(classChain(d, r.slots.SlotOf(transition.Class{Direction: d, ID: e.Class[d]}), 0))
}
