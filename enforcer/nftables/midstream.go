package nftables

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
	strayTCP  = stray(policy.TCP)
	straySCTP = stray(policy.SCTP)

	strayChain = "stray"
	// allowChain and denyChain are those of classes that ask nothing about a packet.
	allowChain = "allow"
	denyChain  = "deny"
)

// auditChain is that of classes of which Audit lets everything pass, if that is reported.
func auditChain(d policy.Direction) string { return "audit-" + d.String() }

// strayRules are the first of every class.
func strayRules() []Rule {
	return []Rule{newRule("", strayTCP, goTo(strayChain)), newRule("", straySCTP, goTo(strayChain))}
}

// foreign matches packets at the output hook whose source is no address of the node.
const foreign = "fib saddr type != local"

// renderStrays makes the chains for strays, and for classes that are decided beforehand. At the output hook the
// node's own packets are not judged but for strays: a node reaches its own pods. A source that is not the
// node's is a pod's or a client's whose packet IPVS sends on; it is judged as at the forward hook.
func (r *renderer) renderStrays() {
	r.addChain(strayChain, "", plainRule("meta l4proto tcp ct state new reject with tcp reset"), newRule("", verdict("drop")))
	r.addChain(allowChain, "", append(strayRules(), newRule("", verdict("return")))...)
	r.addChain(denyChain, "", append(strayRules(), newRule("", denyVerdict(r.log)))...)
	r.addChain("output", "output", plainRule(established), newRule("", words(foreign), goTo("output-foreign")), newRule("", strayTCP, goTo("output-stray")), newRule("", straySCTP, goTo("output-stray")))
	rules, foreigners := []Rule(nil), []Rule{plainRule("ip6 saddr fe80::/10 return")} // the node's own, by any interface
	for _, f := range r.families {
		ingress := newRule("", f.familyMatch(), goTo(dispatchChain(f, policy.Ingress)))
		rules = append(rules, ingress)
		foreigners = append(foreigners, newRule("", f.familyMatch(), jumpTo(dispatchChain(f, policy.Egress))), ingress)
	}
	r.addChain("output-stray", "", rules...)
	r.addChain("output-foreign", "", foreigners...)
}

// isOpen reports whether everything passes to the endpoint in both directions. No
// connection is ever cut for its sake, and its strays pass.
func (r *renderer) isOpen(e policy.Endpoint) bool {
	for _, d := range policy.Directions {
		c := r.program.Classes[d][e.Class[d]]
		if c == nil {
			return false
		}
		if v, ok := transition.TrivialVerdict(c); !ok || !v.Permits() {
			return false
		}
	}
	return true
}
