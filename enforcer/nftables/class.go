package nftables

import (
	"fmt"
	"slices"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// maxSplits is how often a class may go on in another chain after ports have led to their
// peers: the kernel allows 16 chains on the way to a verdict (NFT_JUMP_STACK_SIZE).
const maxSplits = 3

// buildClass makes the chains of a class in a family: one, and others where a tier is passed to, or
// where what comes after a run that is merged goes on. return allows, drop denies.
func (b *classBuilder) buildClass(c *policy.Class) error {
	b.rules, b.budget, b.sets = strayRules(), newBudget(b.program, c), map[string]lookupSets{}
	for i, tier := range c.Tiers {
		last := i+1 == len(c.Tiers)
		pass, opens, next := denyVerdict(b.log), false, 0
		if !last && canPass(tier) {
			next = b.newPart()
			pass, opens = goTo(b.chainName(next)), true
		}
		falls := tier.Else == policy.Pass && !opens && !last
		end := b.ruleVerdict(tier.Else, pass)
		if falls {
			end = ""
		}
		if err := b.addTier(tier, pass, end); err != nil {
			return err
		}
		if !falls {
			b.addRule(defaultReason(tier), end)
		}
		if !opens && !falls {
			break
		}
		if opens {
			b.beginPart(next)
		}
	}
	b.finishPart()
	return nil
}

// canPass reports whether a rule of the tier leaves the decision to the next one.
func canPass(t policy.Tier) bool {
	for _, rule := range t.Rules {
		if rule.Verdict == policy.Pass {
			return true
		}
	}
	return false
}

func (b *classBuilder) ruleVerdict(v policy.Verdict, pass verdict) verdict {
	switch v {
	case policy.Allow:
		return "return"
	case policy.Pass:
		return pass
	case policy.Audit:
		return auditVerdict(b.log, b.Direction)
	default:
		return denyVerdict(b.log)
	}
}

// defaultReason says why the last rule of a tier is there.
func defaultReason(t policy.Tier) string {
	if t.ElseID.Name != "" {
		return t.ElseID.String()
	}
	return string(t.Name) + " tier"
}

// classBuilder collects the rules of a class, chain by chain.
type classBuilder struct {
	*renderer
	transition.Class
	family family
	// part is the number of the chain in the making, parts the highest number, runs that of merged runs.
	part, parts, runs int
	// splits is how many runs have led to another part.
	splits int
	rules  []Rule
	// budget is what may still be copied, and sets are those for lists of peers.
	budget budget
	sets   map[string]lookupSets
}

func (b *classBuilder) chainName(part int) string {
	return classChain(b.family, b.Direction, b.slots.SlotOf(b.Class), part)
}

func (b *classBuilder) addRule(why string, v verdict, match ...term) {
	b.rules = append(b.rules, newRule(why, append(slices.Clip(match), v)...))
}

// newPart is the number of another chain.
func (b *classBuilder) newPart() int {
	b.parts++
	return b.parts
}

// beginPart ends a chain and begins another.
func (b *classBuilder) beginPart(part int) {
	b.finishPart()
	b.part = part
}

func (b *classBuilder) finishPart() {
	b.out.Chains[b.chainName(b.part)] = Chain{Rules: b.rules}
	b.rules = nil
}

// addTier makes the rules of a tier. The end is what becomes of a packet that none of them matches,
// or nothing if more tiers follow in the same chain.
func (b *classBuilder) addTier(t policy.Tier, pass, end verdict) error {
	runs := rulegroup.SplitRuns(t.Rules)
	for i, u := range runs {
		v := b.ruleVerdict(u.Verdict, pass)
		if !canMerge(u) {
			if err := b.addRules(u, v); err != nil {
				return err
			}
			continue
		}
		after := end
		if i+1 < len(runs) {
			after = ""
		}
		why := fmt.Sprintf("%s tier, %d rules", t.Name, len(u.Rules))
		if err := b.addMerged(u, why, v, after); err != nil {
			return err
		}
	}
	return nil
}

// addRules makes rules one by one.
func (b *classBuilder) addRules(u rulegroup.Run, v verdict) error {
	for _, t := range u.SplitTerms() {
		m := match{anyPeer: t.AnyPeer, anyPort: t.Rule.AnyPort, spans: rulegroup.SpansOf(t.Rule.Ports), named: rulegroup.NamedPorts(t.Rule.Ports)}
		var peers []string
		if !t.AnyPeer {
			base, err := b.sharedSet(t.Peer)
			if err != nil {
				return err
			}
			peers = []string{base}
		}
		if err := b.addMatch(t.Rule.ID.String(), v, m, peers); err != nil {
			return err
		}
	}
	return nil
}

// addMatch makes rules for peers in any of some sets, by their base names, at the ports of a match.
func (b *classBuilder) addMatch(why string, v verdict, m match, sets []string) error {
	terms := make([][]term, 0, len(sets))
	for _, base := range sets {
		terms = append(terms, []term{fieldsInSet{fields: fields{b.family.peerField(b.Direction)}, set: b.names.nameOf(base)}})
	}
	if m.anyPeer {
		terms = [][]term{nil}
	}
	ports := spanMatches(m.spans)
	if len(ports)*len(terms) > maxWalk && len(m.spans) > 1 {
		ports = [][]term{{fieldsInSet{portFields, b.names.nameOf(b.portSet(m.spans)), true}}}
	}
	for _, peer := range terms {
		if m.anyPort {
			b.addRule(why, v, peer...)
			continue
		}
		for _, p := range ports {
			b.addRule(why, v, slices.Concat(p, peer)...)
		}
		for _, port := range m.named {
			base, err := b.sharedSet(port.Named)
			if err != nil {
				return err
			}
			named := fieldsInSet{fields: b.peerPort(), set: b.names.nameOf(base)}
			b.addRule(why, v, slices.Concat([]term{protocolIs(port.Protocol)}, peer, []term{named})...)
		}
	}
	return nil
}

// peerPort are the fields of a port at an address of the other side.
func (b *classBuilder) peerPort() fields {
	return append(fields{b.family.peerField(b.Direction)}, portFields...)
}
