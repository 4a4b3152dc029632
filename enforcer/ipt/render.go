package ipt

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// Render is the ruleset that enforces a program for one IP family. It is pure,
// and a function of the program, the names of sets and what to log alone. A program whose
// rules refer to sets that it does not have is an error.
func Render(p *policy.Program, f Family, names SetNames, log DenyLog) (Ruleset, error) {
	r := &renderer{program: p, family: f, names: names, sets: map[policy.SetID]Set{}}
	r.base()
	r.denying(log)
	r.auditing(log)
	for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
		if err := r.direction(d); err != nil {
			return Ruleset{}, err
		}
	}
	return r.ruleset(), nil
}

type renderer struct {
	program *policy.Program
	family  Family
	names   SetNames
	// deny is the target of what is denied, audit that of what Audit lets pass.
	deny   string
	audit  [2]string
	chains []Chain
	sets   map[policy.SetID]Set
}

// base makes the chains that the hooks jump to. Established flows and neighbour
// discovery (RFC 4861) are not judged. In INPUT only what a pod sends is; what
// comes by the loopback interface was sent by the node itself.
func (r *renderer) base() {
	common := []string{"-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"}
	if r.family == IPv6 {
		for kind := 133; kind <= 137; kind++ {
			common = append(common, fmt.Sprintf("-p ipv6-icmp -m icmp6 --icmpv6-type %d -j RETURN", kind))
		}
	}
	egress, ingress := "-j "+rootChain(policy.Egress), "-j "+rootChain(policy.Ingress)
	r.add(forwardChain, slices.Concat(common, []string{egress, ingress}))
	r.add(inputChain, slices.Concat([]string{"-i lo -j RETURN"}, common, []string{egress}))
	r.add(outputChain, []string{strayTCP + ingress, straySCTP + ingress})
	r.add(strayChain, []string{"-p tcp -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset", "-j DROP"})
}

// direction makes the dispatch of a direction and the chains of the classes that it leads to.
func (r *renderer) direction(d policy.Direction) error {
	t := tree{direction: d, unknown: r.unknown(), deny: r.deny, add: r.add}
	t.chain(rootChain(d), r.family.all(), r.entries(d))
	for _, id := range r.classes(d) {
		chains, err := r.class(d, id)
		if err != nil {
			return fmt.Errorf("rendering %s class %s: %w", d, id, err)
		}
		r.chains = append(r.chains, chains...)
	}
	return nil
}

// classes are those of the endpoints that have an address of the family, sorted;
// those that are open need none.
func (r *renderer) classes(d policy.Direction) []policy.ClassID {
	var ids []policy.ClassID
	for _, e := range r.program.Endpoints {
		if slices.ContainsFunc(e.Addrs, r.family.has) && !r.open(e) {
			ids = append(ids, e.Class[d])
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (r *renderer) add(name string, rules []string) {
	r.chains = append(r.chains, Chain{Name: name, Rules: rules})
}

// set is the name of a set, which the ruleset has from now on.
func (r *renderer) set(id policy.SetID) (string, error) {
	if s, ok := r.sets[id]; ok {
		return s.Name, nil
	}
	s, ok := r.program.Sets[id]
	if !ok {
		return "", fmt.Errorf("the program has no set %q", id)
	}
	r.sets[id] = newSet(s, r.family, r.names(id))
	return r.sets[id].Name, nil
}

func (r *renderer) ruleset() Ruleset {
	out := Ruleset{Family: r.family, Chains: r.chains}
	for _, s := range r.sets {
		out.Sets = append(out.Sets, s)
	}
	slices.SortFunc(out.Sets, func(a, b Set) int { return strings.Compare(a.Name, b.Name) })
	return out
}
