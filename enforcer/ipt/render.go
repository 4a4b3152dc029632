package ipt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/diff"
	"github.com/tierwall/tierwall/policy"
)

// Render is the ruleset that enforces a program for one IP family. It is pure,
// and a function of the program and what to log alone. A program whose
// rules refer to sets that it does not have is an error.
func Render(p *policy.Program, f Family, log DenyLog) (Ruleset, error) {
	v, err := render(p, f, newNames(), diff.Slots{}, log)
	return v.ruleset(f), err
}

// rendering is the ruleset of a program, by what it is made of.
type rendering struct {
	// frame are the chains that no change of the program changes.
	frame    []Chain
	dispatch [2][]Chain
	classes  map[diff.Class]*classRules
	// sets are by base name.
	sets map[string]Set
}

func render(p *policy.Program, f Family, n names, s diff.Slots, log DenyLog) (rendering, error) {
	r := newRenderer(p, f, n, s, log)
	out := rendering{frame: r.chains, classes: map[diff.Class]*classRules{}, sets: map[string]Set{}}
	for _, d := range policy.Directions {
		var err error
		if out.dispatch[d], err = r.dispatch(d); err != nil {
			return out, err
		}
		for id := range r.classes(d) {
			k := diff.Class{Direction: d, ID: id}
			c, err := r.class(k, nil)
			if err != nil {
				return out, err
			}
			out.classes[k] = c
			maps.Copy(out.sets, c.own)
			for base, id := range c.refs {
				out.sets[base] = r.policySet(base, id)
			}
		}
	}
	return out, nil
}

// ruleset is everything, in the order in which it is read best.
func (v rendering) ruleset(f Family) Ruleset {
	out := Ruleset{Family: f, Chains: slices.Clone(v.frame)}
	for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
		out.Chains = append(out.Chains, v.dispatch[d]...)
		for _, k := range slices.SortedFunc(maps.Keys(v.classes), compareClasses) {
			if k.Direction == d {
				out.Chains = append(out.Chains, v.classes[k].chains...)
			}
		}
	}
	out.Sets = slices.SortedFunc(maps.Values(v.sets), func(a, b Set) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func compareClasses(a, b diff.Class) int { return strings.Compare(string(a.ID), string(b.ID)) }

// renderer makes the ruleset of a program, or parts of it.
type renderer struct {
	program *policy.Program
	family  Family
	names   names
	slots   diff.Slots
	// deny is the target of what is denied, audit of what the default action Audit lets pass.
	deny   string
	audit  [2]string
	chains []Chain
}

// newRenderer is a renderer that has made the frame.
func newRenderer(p *policy.Program, f Family, n names, s diff.Slots, log DenyLog) *renderer {
	r := &renderer{program: p, family: f, names: n, slots: s}
	r.base()
	r.denying(log)
	r.auditing(log)
	return r
}

// base makes the chains that the hooks jump to. Valid neighbour discovery (RFC 4861, sections 6.1, 7.1
// and 8.1) is not judged; the kernel lowers the hop limit before FORWARD, where only bridged packets still
// have 255. What is established does not come here. In INPUT only what a pod sends is judged; what comes by
// the loopback interface was sent by the node itself. In OUTPUT a source that is not the node's is a pod's
// or a client's whose packet IPVS sends on, and is judged as in FORWARD.
func (r *renderer) base() {
	var common []string
	if r.family == IPv6 {
		for kind := 133; kind <= 137; kind++ {
			common = append(common, fmt.Sprintf("-p ipv6-icmp -m icmp6 --icmpv6-type %d/0 -m hl --hl-eq 255 -j RETURN", kind))
		}
	}
	egress, ingress := "-j "+rootChain(policy.Egress), "-j "+rootChain(policy.Ingress)
	r.add(forwardChain, slices.Concat(common, []string{egress, ingress}))
	r.add(inputChain, slices.Concat([]string{"-i lo -j RETURN"}, common, []string{egress}))
	foreign := "-m addrtype ! --src-type LOCAL "
	r.add(outputChain, []string{foreign + egress, foreign + ingress, strayTCP + ingress, straySCTP + ingress})
	r.add(strayChain, []string{"-p tcp -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset", "-j DROP"})
}

func (r *renderer) add(name string, rules []string) {
	r.chains = append(r.chains, Chain{Name: name, Rules: rules})
}

// dispatch makes the chains that lead from an address to its class.
func (r *renderer) dispatch(d policy.Direction) ([]Chain, error) {
	var out []Chain
	entries, err := r.entries(d)
	if err != nil {
		return nil, err
	}
	t := tree{direction: d, unknown: r.unknown(), deny: r.deny, add: func(name string, rules []string) {
		out = append(out, Chain{Name: name, Rules: rules})
	}}
	t.chain(rootChain(d), r.family.all(), entries)
	return out, nil
}

// classes are those that have chains: all, where any endpoint has an address of the family.
func (r *renderer) classes(d policy.Direction) map[policy.ClassID]*policy.Class {
	if !r.family.in(r.program) {
		return nil
	}
	return r.program.Classes[d]
}

// policySet is a set of the program in the family.
func (r *renderer) policySet(base string, id policy.SetID) Set {
	s := r.program.Sets[id]
	return newSet(r.names.of(base), setTypes[s.Kind], r.family, ofFamily(r.family, s.Elements))
}
