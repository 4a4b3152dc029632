package nft

import (
	"fmt"

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
			pass, opens = "goto "+b.chainName(b.parts+1), true
		}
		if err := b.tier(tier, pass); err != nil {
			return err
		}
		falls := tier.Else == policy.Pass && !opens && !last
		if !falls {
			b.rule("", b.verdict(tier.Else, pass), otherwise(tier))
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

func (b *classBuilder) verdict(v policy.Verdict, pass string) string {
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

func (b *classBuilder) rule(match, verdict, why string) {
	b.rules = append(b.rules, Rule{match + verdict, comment(why)})
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

func (b *classBuilder) tier(t policy.Tier, pass string) error {
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
func (b *classBuilder) walk(terms []run.Term, verdict string) error {
	for _, t := range terms {
		peer := ""
		if !t.AnyPeer {
			name, err := b.shared(t.Peer)
			if err != nil {
				return err
			}
			peer = b.family.peer(b.Direction) + " @" + name + " "
		}
		why := t.Rule.ID.String()
		if t.Rule.AnyPort {
			b.rule(peer, verdict, why)
			continue
		}
		for _, ports := range spanMatches(run.Spans(t.Rule.Ports)) {
			b.rule(ports+peer, verdict, why)
		}
		for _, port := range run.Named(t.Rule.Ports) {
			name, err := b.shared(port.Named)
			if err != nil {
				return err
			}
			b.rule(fmt.Sprintf("meta l4proto %d %s%s . meta l4proto . th dport @%s ", port.Protocol, peer, b.family.peer(b.Direction), name), verdict, why)
		}
	}
	return nil
}

// merged makes rules of a run that is merged: lookups in sets of its own.
func (b *classBuilder) merged(t policy.Tier, u run.Run, verdict string) error {
	m := merge(b.program, b.family, u)
	why := fmt.Sprintf("%s tier, %d rules", t.Name, len(u.Rules))
	if m.always {
		b.rule("", verdict, why)
		return nil
	}
	prefix := fmt.Sprintf("%s-run%d-", b.chainName(0), b.runs)
	b.runs++
	peer, address := b.family.peer(b.Direction), b.family.addressType()
	const ports, portTypes = " . meta l4proto . th dport", " . inet_proto . inet_service"
	if singles, ranges := splitRanges(m.anyPeer); len(ranges) <= maxWalk {
		for _, match := range spanMatches(m.anyPeer) {
			b.rule(match, verdict, why)
		}
	} else {
		for _, match := range spanMatches(singles) {
			b.rule(match, verdict, why)
		}
		name := b.own(prefix+"anyone", Set{Type: "inet_proto . inet_service", Interval: true, Elements: spanElements(ranges)})
		b.rule("meta l4proto . th dport @"+name+" ", verdict, why)
	}
	if m.hasPeers {
		b.rule(peer+" @"+b.own(prefix+"peers", Set{Type: address, Elements: policyElements(m.peers)})+" ", verdict, why)
	}
	if m.hasPeerPorts {
		b.rule(peer+ports+" @"+b.own(prefix+"ports", Set{Type: address + portTypes, Elements: policyElements(m.peerPorts)})+" ", verdict, why)
	}
	if len(m.networks) > 0 {
		b.rule(peer+" @"+b.own(prefix+"networks", Set{Type: address, Interval: true, Elements: blockElements(m.networks)})+" ", verdict, why)
	}
	if len(m.areas) > 0 {
		b.rule(peer+ports+" @"+b.own(prefix+"ranges", Set{Type: address + portTypes, Interval: true, Elements: areaElements(m.areas)})+" ", verdict, why)
	}
	return b.walk(m.rest, verdict)
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
