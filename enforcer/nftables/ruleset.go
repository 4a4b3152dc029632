package nftables

import "maps"

// Ruleset is what the kernel is to hold of ours, or a part of it.
type Ruleset struct {
	// Chains and Sets are by name. Maps are among the sets.
	Chains map[string]Chain
	Sets   map[string]Set
}

// Chain is a chain with its rules.
type Chain struct {
	// Hook is where a base chain hangs, such as forward; others have none.
	Hook  string
	Rules []Rule
}

// inputPriority is that of the input hook. IPVS takes packets there at 99 (ip_vs_core.c: NF_IP_PRI_NAT_SRC - 1)
// and sends them by the output hook; what comes here afterwards is for the node itself.
const inputPriority = 100

// Priority is that of a base chain: filter (0), but for the input hook.
func (c Chain) Priority() int {
	if c.Hook == "input" {
		return inputPriority
	}
	return 0
}

// Rule is a rule as nft reads it, and why it is there.
type Rule struct {
	Text, Comment string
	terms         []term
}

// sameText reports whether both rules read the same.
func (r Rule) sameText(o Rule) bool { return r.Text == o.Text && r.Comment == o.Comment }

// Set is a set, or a map of verdicts.
type Set struct {
	// Type is that of the keys, such as "ipv4_addr . inet_proto . inet_service".
	Type string
	// Interval sets hold ranges. They never change once rules refer to them:
	// some kinds of them switch to new elements later than the rest of a transaction.
	Interval bool
	// Map says that keys have verdicts.
	Map bool
	// Elements are by key, written as nft prints it with numbers for names.
	Elements map[string]Element
}

// Element is what belongs to a key.
type Element struct {
	// Verdict is that of a map's key.
	Verdict string
	Comment string
}

func newRuleset() Ruleset { return Ruleset{Chains: map[string]Chain{}, Sets: map[string]Set{}} }

// sameKind reports whether two sets are equal but for their elements.
func (s Set) sameKind(o Set) bool {
	return s.Type == o.Type && s.Interval == o.Interval && s.Map == o.Map
}

// sameAs reports whether two sets are equal.
func (s Set) sameAs(o Set) bool { return s.sameKind(o) && maps.Equal(s.Elements, o.Elements) }

// shareElements takes sets from others of the same name that are equal, so that their elements are in memory once.
func (r Ruleset) shareElements(others map[string]Set) {
	for name, s := range r.Sets {
		if o, there := others[name]; there && o.sameAs(s) {
			r.Sets[name] = o
		}
	}
}
