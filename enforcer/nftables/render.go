package nftables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/enforcer/refusal"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// Render is the ruleset that enforces a program. It is pure, and a function of the
// program and of what to log alone. A program whose rules refer to sets that it does not have is an error.
func Render(p *policy.Program, log ruletext.DenyLog) (Ruleset, error) {
	r := newRenderer(p, names{}, transition.Slots{}, log)
	err := r.renderAll()
	return r.out, err
}

// renderer makes the ruleset of a program, or parts of it.
type renderer struct {
	program  *policy.Program
	families []family
	names    names
	slots    transition.Slots
	log      ruletext.DenyLog
	out      Ruleset
	// closed are classes that deny everything, whatever their rules.
	closed refusal.Classes
	// refs are the sets and chains that chains of classes refer to.
	refs references
	// inForce are those of the program in force, whose base names others must not have; numbered holds the highest
	// number given for a hash, where several have it.
	inForce  references
	numbered map[string]int
}

func newRenderer(p *policy.Program, n names, s transition.Slots, log ruletext.DenyLog) *renderer {
	return &renderer{program: p, families: familiesOf(p), names: n, slots: s, log: log, out: newRuleset(), refs: references{}, numbered: map[string]int{}}
}

// keepFrom has what the program in force refers to keep its base names.
func (r *renderer) keepFrom(s *state) *renderer {
	if r.inForce = s.refs; s.numbered != nil {
		r.numbered = s.numbered
	}
	return r
}

func (r *renderer) renderAll() error {
	r.renderFrame()
	for _, f := range r.families {
		for _, d := range policy.Directions {
			r.renderDispatch(f, d, nil)
		}
	}
	for _, d := range policy.Directions {
		for _, id := range slices.Sorted(maps.Keys(r.program.Classes[d])) {
			if err := r.renderClass(transition.Class{Direction: d, ID: id}); err != nil {
				return err
			}
		}
	}
	for base, ref := range r.refs {
		r.putReference(base, ref)
	}
	return nil
}

// classError is a class that cannot be rendered.
type classError struct {
	transition.Class
	err error
}

func (e *classError) Error() string {
	return fmt.Sprintf("render %s class %s: %v", e.Direction, e.ID, e.err)
}

// Unwrap is that of package errors.
func (e *classError) Unwrap() error { return e.err }

// renderClass makes the chains of a class in all families, and the sets that only they refer to.
func (r *renderer) renderClass(k transition.Class) error {
	c := r.program.Classes[k.Direction][k.ID]
	if c == nil || r.closed[k] != nil {
		return nil // no endpoint leads here
	}
	if _, ok := transition.TrivialVerdict(c); ok {
		return nil
	}
	for _, f := range r.families {
		b := &classBuilder{renderer: r, family: f, Class: k}
		if err := b.buildClass(c); err != nil {
			return &classError{k, err}
		}
	}
	return nil
}

const established = "ct state established,related accept"

// neighbourDiscovery matches the valid messages of RFC 4861 (sections 6.1, 7.1 and 8.1). The kernel lowers
// the hop limit before the forward hook, where only bridged packets still have 255.
const neighbourDiscovery = "icmpv6 type 133-137 icmpv6 code 0 ip6 hoplimit 255 accept"

// renderFrame makes the base chains and those that look up classes. What is established, and
// neighbour discovery, is not judged. At the input hook only what a pod sends is;
// what comes by the loopback interface was sent by the node itself. A base chain's
// accept lets other tables decide, a drop is final.
func (r *renderer) renderFrame() {
	forward, input := []Rule{plainRule(established)}, []Rule{plainRule(established), plainRule(`iifname "lo" accept`)}
	for _, f := range []family{ipv6, ipv4} {
		if !slices.Contains(r.families, f) {
			continue
		}
		egress, ingress := dispatchChain(f, policy.Egress), dispatchChain(f, policy.Ingress)
		protocol := f.familyMatch()
		if f == ipv6 {
			forward = append(forward, newRule("", protocol, goTo("forward-6")))
			input = append(input, newRule("", protocol, goTo("input-6")))
			r.addChain("forward-6", "", plainRule(neighbourDiscovery), newRule("", jumpTo(egress)), newRule("", goTo(ingress)))
			r.addChain("input-6", "", plainRule(neighbourDiscovery), newRule("", goTo(egress)))
			continue
		}
		forward = append(forward, newRule("", protocol, jumpTo(egress)), newRule("", protocol, goTo(ingress)))
		input = append(input, newRule("", protocol, goTo(egress)))
	}
	r.addChain("forward", "forward", forward...)
	r.addChain("input", "input", input...)
	r.renderStrays()
	r.renderLogs()
	for _, f := range r.families {
		for _, d := range policy.Directions {
			r.addChain(dispatchChain(f, d), "", r.lookupRules(f, d)...)
		}
	}
}

func (r *renderer) addChain(name, hook string, rules ...Rule) {
	r.out.Chains[name] = Chain{Hook: hook, Rules: rules}
}

// lookupRules are the rules that lead from an address to its class, and deny addresses that
// are within the node's pod networks and no endpoint's.
func (r *renderer) lookupRules(f family, d policy.Direction) []Rule {
	rules := []Rule{newRule("", verdictMap{fields{f.ownField(d)}, r.names.nameOf(dispatchMap(f, d)), false})}
	if r.program.Unknown == policy.Allow {
		return rules
	}
	var local []block
	for _, p := range r.program.Local {
		if f.hasAddress(p.Addr()) {
			local = append(local, blockOf(p))
		}
	}
	for _, b := range mergeBlocks(local) {
		rules = append(rules, newRule("no pod known at this address", inBlock{f.ownField(d), b}, denyVerdict(r.log)))
	}
	return rules
}

// renderDispatch makes the map from the addresses of endpoints to their classes, or, where
// only some are given, the part of it for these. Addresses of nodes that lie
// within the pod networks (a bridge's, say) are no unknown pods.
func (r *renderer) renderDispatch(f family, d policy.Direction, only map[netip.Addr]bool) {
	s := Set{Type: f.addressType(), Map: true, Elements: map[string]Element{}}
	wanted := func(a netip.Addr) bool { return f.hasAddress(a) && (only == nil || only[a]) }
	for _, h := range r.program.Hosts {
		for _, a := range h.Addrs {
			if wanted(a) && isWithin(r.program.Local, a) {
				s.Elements[a.String()] = Element{"return", safeComment("node " + h.Name)}
			}
		}
	}
	for _, e := range r.program.Endpoints {
		for _, a := range e.Addrs {
			if wanted(a) {
				s.Elements[a.String()] = Element{string(r.dispatchVerdict(f, d, e)), safeComment(e.Key())}
			}
		}
	}
	r.out.Sets[r.names.nameOf(dispatchMap(f, d))] = s
}

// dispatchVerdict is what to do with the packets of an endpoint. Without a class it is denied.
func (r *renderer) dispatchVerdict(f family, d policy.Direction, e policy.Endpoint) verdict {
	c := r.program.Classes[d][e.Class[d]]
	if c == nil || r.closed[transition.Class{Direction: d, ID: e.Class[d]}] != nil {
		return goTo(denyChain)
	}
	v, ok := transition.TrivialVerdict(c)
	audits := v == policy.Audit && r.log.AuditPerSecond > 0
	switch {
	case !ok:
		return goTo(classChain(f, d, r.slots.SlotOf(transition.Class{Direction: d, ID: e.Class[d]}), 0))
	case audits && r.isOpen(e):
		return auditVerdict(r.log, d)
	case audits:
		return goTo(auditChain(d))
	case r.isOpen(e):
		return "return"
	case v.Permits():
		return goTo(allowChain)
	default:
		return goTo(denyChain)
	}
}

func isWithin(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
