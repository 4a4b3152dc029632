package iptables

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// classRules are the chains of a class in a family, and the sets that they refer to.
type classRules struct {
	chains []Chain
	// refs are the policy's sets, lists the lists of such sets, own the sets that no other class refers to, by base name.
	refs  map[string]policy.SetID
	lists map[string][]policy.SetID
	own   map[string]Set
}

// classBuilder makes the rules of a class. With only, its own sets hold that
// part of their elements.
type classBuilder struct {
	*renderer
	transition.Class
	only *part
	plan mergePlan
	out  *classRules
	// why are the rules of the last chain there, one by one.
	why []string
}

// renderClass makes the chains of a class. One that cannot be rendered, or was refused by the kernel, is closed.
func (r *renderer) renderClass(k transition.Class, only *part) *classRules {
	err := r.refused[k]
	if err == nil {
		var out *classRules
		if out, err = r.openClass(k, only); err == nil {
			return out
		}
	}
	r.failed[k] = err
	b := &classBuilder{renderer: r, Class: k, out: &classRules{}}
	b.startPart()
	b.addRule("", "closed, as its rules cannot be in force", r.deny)
	b.addComment()
	return b.out
}

// openClass makes the chains of a class: one, and another for each tier that a rule
// before it passes to. RETURN allows, DROP denies.
func (r *renderer) openClass(k transition.Class, only *part) (*classRules, error) {
	c := k.ClassIn(r.program)
	if c == nil {
		return nil, fmt.Errorf("rendering %s class %s: the program has no such class", k.Direction, k.ID)
	}
	b := &classBuilder{renderer: r, Class: k, only: only, plan: planMerge(r.program, c, newTermReader()),
		out: &classRules{refs: map[string]policy.SetID{}, lists: map[string][]policy.SetID{}, own: map[string]Set{}}}
	if err := b.buildClass(c); err != nil {
		return nil, fmt.Errorf("rendering %s class %s: %w", k.Direction, k.ID, err)
	}
	return b.out, nil
}

func (b *classBuilder) buildClass(c *policy.Class) error {
	b.startPart()
	b.addRule(strayTCP, "", toStray)
	b.addRule(straySCTP, "", toStray)
	for i, tier := range c.Tiers {
		pass, opens := b.deny, false
		if i+1 < len(c.Tiers) && canPass(tier) {
			pass, opens = "-g "+b.chainName(len(b.out.chains)), true
		}
		if err := b.addTier(i, tier, pass); err != nil {
			return err
		}
		falls := tier.Else == policy.Pass && !opens && i+1 < len(c.Tiers)
		if !falls {
			b.addRule("", defaultReason(tier), b.targetOf(b.Direction, tier.Else, pass))
			b.addComment()
		}
		if opens {
			b.startPart()
		} else if !falls {
			return nil
		}
	}
	if len(c.Tiers) == 0 {
		b.addRule("", "", b.deny)
	}
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

func (b *classBuilder) chainName(part int) string {
	return b.names.chainName(classChain(b.Direction, b.slots.SlotOf(b.Class), part))
}

// startPart begins the next chain.
func (b *classBuilder) startPart() {
	b.out.chains = append(b.out.chains, Chain{Name: b.chainName(len(b.out.chains))})
}

// addRule appends a rule, and remembers why it is there.
func (b *classBuilder) addRule(matches, why, target string) {
	part := &b.out.chains[len(b.out.chains)-1]
	part.Rules = append(part.Rules, matches+target)
	b.why = append(b.why, why)
}

// addComment ends a chain with comments, by the numbers of the rules that they are about. No packet comes
// there, behind a rule that decides about all: with iptables over nf_tables a comment is a match
// like any other, and to each packet that passes costs as much as ten that compare an address.
func (b *classBuilder) addComment() {
	part := &b.out.chains[len(b.out.chains)-1]
	for first := 0; first < len(b.why); {
		last := first
		for last+1 < len(b.why) && b.why[last+1] == b.why[first] {
			last++
		}
		if why := b.why[first]; why != "" {
			part.Rules = append(part.Rules, strings.TrimSpace(commentMatch(ruleNumbers(first+1, last+1)+": "+why)))
		}
		first = last + 1
	}
	b.why = nil
}

// ruleNumbers are those of the rules from one to another, as iptables -L --line-numbers counts them.
func ruleNumbers(first, last int) string {
	if first == last {
		return strconv.Itoa(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

func (b *classBuilder) addTier(tier int, t policy.Tier, pass string) error {
	for i, u := range rulegroup.SplitRuns(t.Rules) {
		target := b.targetOf(b.Direction, u.Verdict, pass)
		if plan := b.plan[place{tier, i}]; plan != nil {
			if err := b.addMerged(t, u, plan, fmt.Sprint(tier, ".", i), target); err != nil {
				return err
			}
			continue
		}
		for _, r := range u.Rules {
			if err := b.addRules(r, target); err != nil {
				return err
			}
		}
	}
	return nil
}

// addRules makes the rules of one rule.
func (b *classBuilder) addRules(r policy.Rule, target string) error {
	matches, err := b.ruleMatches(r)
	for _, m := range matches {
		b.addRule(m, r.ID.String(), target)
	}
	return err
}

// addMerged makes the rules of a run that is merged: lookups in sets of its own, which are named
// by its place, and those of the terms that are not merged.
func (b *classBuilder) addMerged(t policy.Tier, u rulegroup.Run, plan *runPlan, place, target string) error {
	m := mergeTerms(b.program, b.family, plan.merged, b.only)
	why := string(t.Name) + " tier, merged rules"
	if len(u.Rules) == 1 {
		why = u.Rules[0].ID.String()
	}
	if m.always {
		b.addRule("", why, target)
		return nil
	}
	for _, match := range spanMatches(m.anyPeer) {
		b.addRule(match.protocol+match.ports, why, target)
	}
	if m.hasPorts {
		b.addRule(b.inOwn(place, "ports", "hash:net,port", m.ports, setSide(b.Direction)+",dst"), why, target)
	}
	if m.hasPeers {
		b.addRule(b.inOwn(place, "peers", "hash:net", m.peers, setSide(b.Direction)), why, target)
	}
	for _, s := range slices.SortedFunc(maps.Keys(m.spans), rulegroup.Span.Compare) {
		in := b.inOwn(place, s.String(), "hash:net", m.spans[s], setSide(b.Direction))
		for _, match := range spanMatches([]rulegroup.Span{s}) {
			b.addRule(match.protocol+match.ports+in, why, target)
		}
	}
	return b.addGrouped(plan, why, target)
}

// inOwn is the match of a set of the class's own, which it makes.
func (b *classBuilder) inOwn(place, what, kind string, elements []policy.Element, sides string) string {
	base := ownSet(b.family, b.Direction, b.slots.SlotOf(b.Class), place, what)
	name := b.names.setName(base)
	b.out.own[base] = newSet(name, kind, b.family, elements)
	return inSet(name, sides)
}

// inSet is the match of a set.
func inSet(name, sides string) string { return "-m set --match-set " + name + " " + sides + " " }

// defaultReason says why the last rule of a tier is there. Where rules are merged it names no object,
// because the one that would be named changes with any policy.
func defaultReason(t policy.Tier) string {
	if t.ElseID.Name != "" && !slices.ContainsFunc(rulegroup.SplitRuns(t.Rules), canMerge) {
		return t.ElseID.String()
	}
	return string(t.Name) + " tier"
}

func (r *renderer) targetOf(d policy.Direction, v policy.Verdict, pass string) string {
	switch v {
	case policy.Allow:
		return "-j RETURN"
	case policy.Pass:
		return pass
	case policy.Audit:
		return r.audit[d]
	default:
		return r.deny
	}
}

// ruleMatches are the matches of a rule, each with a space at its end; a flow that
// any of them matches is matched. iptables has no "or" but several rules. Ports come before
// peers, because numbers are compared faster than sets are looked into. Many peers
// and many ports are not multiplied: the peers are a list then.
func (b *classBuilder) ruleMatches(rule policy.Rule) ([]string, error) {
	ports, err := b.portMatches(rule)
	if err != nil {
		return nil, err
	}
	peers, err := b.peerMatches(rule, len(rule.Peers) > 1 && len(rule.Peers)*len(ports) > limits.walk)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, peer := range peers {
		for _, port := range ports {
			out = append(out, port.protocol+port.ports+peer)
		}
	}
	return out, nil
}

// peerMatches are the matches of a rule's peers, set by set or as a list of them.
func (b *classBuilder) peerMatches(rule policy.Rule, asList bool) ([]string, error) {
	if rule.AnyPeer {
		return []string{""}, nil
	}
	if asList {
		return b.inLists(rule.Peers)
	}
	var out []string
	for _, id := range rule.Peers {
		name, err := b.sharedSet(id)
		if err != nil {
			return nil, err
		}
		out = append(out, inSet(name, setSide(b.Direction)))
	}
	return out, nil
}

// setSide is where the peer of a direction is.
func setSide(d policy.Direction) string {
	if d == policy.Egress {
		return "dst"
	}
	return "src"
}

// sharedSet is the name of a policy's set, for a rule of the class to refer to.
func (b *classBuilder) sharedSet(id policy.SetID) (string, error) {
	if _, ok := b.program.Sets[id]; !ok {
		return "", fmt.Errorf("the program has no set %q", id)
	}
	base := policySet(b.family, id)
	b.out.refs[base] = id
	return b.names.setName(base), nil
}
