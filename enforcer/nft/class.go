package nft

import (
	"fmt"
	"slices"

	"github.com/tierwall/tierwall/enforcer/diff"
	"github.com/tierwall/tierwall/enforcer/run"
	"github.com/tierwall/tierwall/policy"
)

// build makes the chains of a class in a family: one, and another for each tier that
// a rule before it passes to. return allows, drop denies.
func (b *classBuilder) build(c *policy.Class) error {
	b.rules = strayRules()
	for i, tier := range c.Tiers {
		last := i+1 == len(c.Tiers)
		pass, opens := b.log.verdict(), false
		if !last && passes(tier) {
			pass, opens = goTo(b.chainName(b.parts+1)), true
		}
		if err := b.tier(tier, pass); err != nil {
			return err
		}
		falls := tier.Else == policy.Pass && !opens && !last
		if !falls {
			b.rule(otherwise(tier), b.verdict(tier.Else, pass))
		}
		if !opens && !falls {
			break
		}
		if opens {
			b.next()
		}
	}
	b.done()
	return nil
}

// passes says whether a rule of the tier leaves the decision to the next one.
func passes(t policy.Tier) bool {
	for _, rule := range t.Rules {
		if rule.Verdict == policy.Pass {
			return true
		}
	}
	return false
}

func (b *classBuilder) verdict(v policy.Verdict, pass verdict) verdict {
	switch v {
	case policy.Allow:
		return "return"
	case policy.Pass:
		return pass
	case policy.Audit:
		return b.log.audit(b.Direction)
	default:
		return b.log.verdict()
	}
}

// otherwise says why the last rule of a tier is there.
func otherwise(t policy.Tier) string {
	if t.ElseID.Name != "" {
		return t.ElseID.String()
	}
	return string(t.Name) + " tier"
}

// classBuilder collects the rules of a class, chain by chain.
type classBuilder struct {
	*renderer
	diff.Class
	family family
	// parts is the number of chains that are done, runs that of merged runs.
	parts, runs int
	rules       []Rule
}

func (b *classBuilder) chainName(part int) string {
	return classChain(b.family, b.Direction, b.slots.Of(b.Class), part)
}

func (b *classBuilder) rule(why string, v verdict, match ...term) {
	b.rules = append(b.rules, newRule(why, append(slices.Clip(match), v)...))
}

// next ends a chain and begins the next one.
func (b *classBuilder) next() {
	b.done()
	b.parts++
}

func (b *classBuilder) done() {
	b.out.Chains[b.chainName(b.parts)] = Chain{Rules: b.rules}
	b.rules = nil
}

func (b *classBuilder) tier(t policy.Tier, pass verdict) error {
	for _, u := range run.Of(t.Rules) {
		if !merges(u) {
			if err := b.walk(u.Terms(), b.verdict(u.Verdict, pass)); err != nil {
				return err
			}
			continue
		}
		if err := b.merged(t, u, b.verdict(u.Verdict, pass)); err != nil {
			return err
		}
	}
	return nil
}

// walk makes rules of terms one by one.
func (b *classBuilder) walk(terms []run.Term, v verdict) error {
	for _, t := range terms {
		var peer []term
		if !t.AnyPeer {
			name, err := b.shared(t.Peer)
			if err != nil {
				return err
			}
			peer = []term{in{fields: fields{b.family.peer(b.Direction)}, set: name}}
		}
		why := t.Rule.ID.String()
		if t.Rule.AnyPort {
			b.rule(why, v, peer...)
			continue
		}
		for _, ports := range spanMatches(run.Spans(t.Rule.Ports)) {
			b.rule(why, v, append(ports, peer...)...)
		}
		for _, port := range run.Named(t.Rule.Ports) {
			name, err := b.shared(port.Named)
			if err != nil {
				return err
			}
			named := in{fields: b.peerPort(), set: name}
			b.rule(why, v, slices.Concat([]term{of(port.Protocol)}, peer, []term{named})...)
		}
	}
	return nil
}

// peerPort are the fields of a port at an address of the other side.
func (b *classBuilder) peerPort() fields {
	return append(fields{b.family.peer(b.Direction)}, portFields...)
}

// merged makes rules of a run that is merged: lookups in sets of its own.
func (b *classBuilder) merged(t policy.Tier, u run.Run, v verdict) error {
	m := merge(b.program, b.family, u)
	why := fmt.Sprintf("%s tier, %d rules", t.Name, len(u.Rules))
	if m.always {
		b.rule(why, v)
		return nil
	}
	prefix := fmt.Sprintf("%s-run%d-", b.chainName(0), b.runs)
	b.runs++
	lookup := func(name string, f fields, ranges bool, elements map[string]Element) {
		set := b.own(prefix+name, Set{Type: f.setType(), Interval: ranges, Elements: elements})
		b.rule(why, v, in{f, set, ranges})
	}
	peer := fields{b.family.peer(b.Direction)}
	walked, ranges := m.anyPeer, []run.Span(nil)
	if together, apart := splitRanges(m.anyPeer); len(apart) > maxWalk {
		walked, ranges = together, apart
	}
	for _, match := range spanMatches(walked) {
		b.rule(why, v, match...)
	}
	if len(ranges) > 0 {
		lookup("anyone", portFields, true, spanElements(ranges))
	}
	if m.hasPeers {
		lookup("peers", peer, false, policyElements(m.peers))
	}
	if m.hasPeerPorts {
		lookup("ports", b.peerPort(), false, policyElements(m.peerPorts))
	}
	if len(m.networks) > 0 {
		lookup("networks", peer, true, blockElements(m.networks))
	}
	if len(m.areas) > 0 {
		lookup("ranges", b.peerPort(), true, areaElements(m.areas))
	}
	return b.walk(m.rest, v)
}

// splitRanges are the spans that spanMatches matches together, and those that it does not.
func splitRanges(in []run.Span) (together, ranges []run.Span) {
	for _, s := range in {
		if single(s) || s.All() {
			together = append(together, s)
		} else {
			ranges = append(ranges, s)
		}
	}
	return together, ranges
}
