package iptables

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/refusal"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// Render is the ruleset that enforces a program for one IP family. It is pure,
// and a function of the program and what to log alone. A class whose
// rules refer to sets that the program does not have is an error, and closed in the ruleset.
func Render(p *policy.Program, f Family, log ruletext.DenyLog) (Ruleset, error) {
	v := newRenderer(p, f, newNames(), transition.Slots{}, log, nil).render()
	var errs []error
	for _, k := range slices.SortedFunc(maps.Keys(v.failed), compareClasses) {
		errs = append(errs, v.failed[k])
	}
	return v.toRuleset(f), errors.Join(errs...)
}

// rendering is the ruleset of a program, by what it is made of.
type rendering struct {
	// frame are the chains that no change of the program changes.
	frame    []Chain
	dispatch [2][]Chain
	classes  map[transition.Class]*classRules
	// sets are by base name, lists too, of which lists holds the sets.
	sets  map[string]Set
	lists map[string][]policy.SetID
	// failed are the classes that are closed, because they cannot be rendered or were refused.
	failed refusal.Classes
}

// render renders the whole program.
func (r *renderer) render() rendering {
	out := rendering{frame: r.chains, classes: map[transition.Class]*classRules{}, sets: map[string]Set{}, lists: map[string][]policy.SetID{}, failed: r.failed}
	for _, d := range policy.Directions {
		out.dispatch[d] = r.dispatchChains(d)
		for _, id := range slices.Sorted(maps.Keys(r.usedClasses(d))) {
			k := transition.Class{Direction: d, ID: id}
			c := r.renderClass(k, nil)
			out.classes[k] = c
			maps.Copy(out.sets, c.own)
			for base, id := range c.refs {
				out.sets[base] = r.policySet(base, id)
			}
			for base, ids := range c.lists {
				out.sets[base], out.lists[base] = r.listSet(base, ids), ids
			}
		}
	}
	return out
}

// toRuleset is everything, in the order in which it is read best.
func (v rendering) toRuleset(f Family) Ruleset {
	out := Ruleset{Family: f, Chains: slices.Clone(v.frame)}
	for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
		out.Chains = append(out.Chains, v.dispatch[d]...)
		for _, k := range slices.SortedFunc(maps.Keys(v.classes), compareClasses) {
			if k.Direction == d {
				out.Chains = append(out.Chains, v.classes[k].chains...)
			}
		}
	}
	out.Sets = slices.SortedFunc(maps.Values(v.sets), compareSets)
	return out
}

// compareSets orders sets by name, and lists behind the sets that they list.
func compareSets(a, b Set) int {
	switch {
	case a.isList() == b.isList():
		return strings.Compare(a.Name, b.Name)
	case a.isList():
		return 1
	default:
		return -1
	}
}

func compareClasses(a, b transition.Class) int { return strings.Compare(string(a.ID), string(b.ID)) }

// renderer makes the ruleset of a program, or parts of it.
type renderer struct {
	program *policy.Program
	family  Family
	names   names
	slots   transition.Slots
	// deny is the target of what is denied, audit of what the default action Audit lets pass.
	deny   string
	audit  [2]string
	chains []Chain
	// refused are the classes to close, failed those that were closed.
	refused, failed refusal.Classes
}

// newRenderer is a renderer that has made the frame.
func newRenderer(p *policy.Program, f Family, n names, s transition.Slots, log ruletext.DenyLog, refused refusal.Classes) *renderer {
	r := &renderer{program: p, family: f, names: n, slots: s, refused: refused, failed: refusal.Classes{}}
	r.renderBase()
	r.renderDeny(log)
	r.renderAudit(log)
	return r
}

// renderBase makes the chains that the hooks jump to. Valid neighbour discovery (RFC 4861, sections 6.1, 7.1
// and 8.1) is not judged; the kernel lowers the hop limit before FORWARD, where only bridged packets still
// have 255. What is established does not come here. In INPUT only what a pod sends is judged; what comes by
// the loopback interface was sent by the node itself. In OUTPUT a source that is not the node's is a pod's
// or a client's whose packet IPVS sends on, and is judged as in FORWARD.
func (r *renderer) renderBase() {
	var common []string
	if r.family == IPv6 {
		for kind := 133; kind <= 137; kind++ {
			common = append(common, fmt.Sprintf("-p ipv6-icmp -m icmp6 --icmpv6-type %d/0 -m hl --hl-eq 255 -j RETURN", kind))
		}
	}
	egress, ingress := "-j "+rootChain(policy.Egress), "-j "+rootChain(policy.Ingress)
	r.addChain(forwardChain, slices.Concat(common, []string{egress, ingress}))
	r.addChain(inputChain, slices.Concat([]string{"-i lo -j RETURN"}, common, []string{egress}))
	foreign := "-m addrtype ! --src-type LOCAL "
	r.addChain(outputChain, []string{foreign + egress, foreign + ingress, strayTCP + ingress, straySCTP + ingress})
	r.addChain(strayChain, []string{"-p tcp -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset", "-j DROP"})
}

func (r *renderer) addChain(name string, rules []string) {
	r.chains = append(r.chains, Chain{Name: name, Rules: rules})
}

// dispatchChains makes the chains that lead from an address to its class.
func (r *renderer) dispatchChains(d policy.Direction) []Chain {
	var out []Chain
	entries := r.dispatchEntries(d)
	t := tree{direction: d, unknown: r.unknownPrefixes(), deny: r.deny, names: r.names, add: func(name string, rules []string) {
		out = append(out, Chain{Name: name, Rules: rules})
	}}
	t.addChain(rootChain(d), r.family.allAddresses(), entries)
	return out
}

// usedClasses are those that have chains: all, where any endpoint has an address of the family.
func (r *renderer) usedClasses(d policy.Direction) map[policy.ClassID]*policy.Class {
	if !r.family.isUsedBy(r.program) {
		return nil
	}
	return r.program.Classes[d]
}

// policySet is a set of the program in the family.
func (r *renderer) policySet(base string, id policy.SetID) Set {
	s := r.program.Sets[id]
	return newSet(r.names.setName(base), setTypes[s.Kind], r.family, ofFamily(r.family, s.Elements))
}
