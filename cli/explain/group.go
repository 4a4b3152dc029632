package explain

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// Pairs are pods of both sides that have the same answer.
type Pairs struct {
	// From and To are the pods, at most ten of each.
	From []string `json:"from"`
	To   []string `json:"to"`
	// Self is true where each pod is paired with itself, and Others where it is with others alone, of
	// sides that have pods in common.
	Self   bool `json:"self,omitempty"`
	Others bool `json:"others,omitempty"`
	// Count is how many pairs there are, of Of. Stand-ins count as one pod and another.
	Count int `json:"count"`
	Of    int `json:"of"`
}

// maxNamed is how many pods of an answer are named.
const maxNamed = 10

// kin are members of a side that no policy can tell apart.
type kin []Member

// group has the members of a side together that are the same to every policy.
func (x *explainer) group(side Side, family int) []kin {
	var networks []*policy.Set
	for _, id := range slices.Sorted(maps.Keys(x.all.program.Sets)) {
		if s := x.all.program.Sets[id]; s.Kind == policy.Networks {
			networks = append(networks, s)
		}
	}
	index := map[string]int{}
	var out []kin
	for _, m := range side.Members {
		if m.kind != unknownPeer && !m.addr(family).IsValid() {
			continue
		}
		key := x.kinKey(m, family, networks)
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], m)
	}
	return out
}

func (x *explainer) kinKey(m Member, family int, networks []*policy.Set) string {
	if m.pod == nil || m.maybe != nil {
		return m.Name + fmt.Sprint(m.port)
	}
	var b strings.Builder
	p := m.pod
	node := ""
	if m.kind == hostMember || x.hasHosts() {
		node = p.Node
	}
	fmt.Fprintf(&b, "%d|%s|%s|%v|%v|%d|%s|%v|", m.kind, p.Namespace, p.ServiceAccount, p.Ports, m.unlocated, m.port, node, x.all.endpoint(m) != nil)
	for _, key := range x.keys {
		value, has := p.Labels[key]
		fmt.Fprintf(&b, "%s=%s,%v|", key, value, has)
	}
	for _, c := range x.choices(m) {
		fmt.Fprintf(&b, "%v|", c.options)
	}
	if !m.unlocated {
		for _, s := range networks {
			fmt.Fprint(&b, eval.Contains(s, m.addr(family)))
		}
	}
	return b.String()
}

// hasHosts reports whether a side has members that may be on a node's network.
func (x *explainer) hasHosts() bool {
	return slices.ContainsFunc(slices.Concat(x.question.From.Members, x.question.To.Members), func(m Member) bool { return m.kind != podMember })
}

// paired is an answer on pairs.
type paired struct {
	decision
	pairs Pairs
}

// answers are those of a family, one for each group of pairs that have the same.
func (x *explainer) answers(family int) []Answer {
	from, to := x.group(x.question.From, family), x.group(x.question.To, family)
	protocol := x.question.Port.Protocol
	if protocol == policy.ICMP && family == 1 {
		protocol = policy.ICMPv6
	}
	var found []paired
	for _, a := range from {
		for _, b := range to {
			self, other, selves, others := pairsOf(a, b)
			q := query{family, protocol, b[0].port}
			if selves > 0 {
				found = append(found, paired{x.decide(self, self.reachedLike(b[0]), q), Pairs{From: namesOf(a), To: namesOf(b), Self: true, Count: selves}})
			}
			if others > 0 {
				found = append(found, paired{x.decide(other[0], other[1], q), Pairs{From: namesOf(a), To: namesOf(b), Others: selves > 0, Count: others}})
			}
		}
	}
	return x.merge(markUncertain(found))
}

// reachedLike is the member reached as the other is.
func (m Member) reachedLike(other Member) Member {
	m.port, m.service, m.maybe = other.port, other.service, other.maybe
	return m
}

// pairsOf counts the pairs of two kins: those of a pod with itself, and the others, with one of each.
func pairsOf(a, b kin) (self Member, other [2]Member, selves, others int) {
	in := map[string]bool{}
	for _, m := range a {
		in[m.Name] = m.pod != nil
	}
	for _, m := range b {
		if in[m.Name] {
			self = m
			selves++
		}
	}
	others = len(a)*len(b) - selves
	if others > 0 {
		other = [2]Member{a[0], b[0]}
		if a[0].Name == b[0].Name && in[a[0].Name] {
			if len(b) > 1 {
				other[1] = b[1]
			} else {
				other[0] = a[1]
			}
		}
	}
	return self, other, selves, others
}

func namesOf(k kin) []string {
	var out []string
	for _, m := range k {
		out = append(out, m.Name)
	}
	slices.Sort(out)
	return out
}

// markUncertain has the decisions on members that may not be part of a side unknown, where they differ from the others.
func markUncertain(found []paired) []paired {
	certain := map[string]bool{}
	all := map[string]bool{}
	for _, p := range found {
		all[p.verdict] = true
		if p.from.maybe == nil && p.to.maybe == nil {
			certain[p.verdict] = true
		}
	}
	if len(all) == 1 {
		return found
	}
	for i := range found {
		p := &found[i]
		why := p.to.maybe
		if why == nil {
			why = p.from.maybe
		}
		if why == nil || len(certain) == 1 && certain[p.verdict] {
			continue
		}
		p.verdict = Unsure
		p.because = append(p.because, *why)
	}
	return found
}

// merge puts pairs together that have the same answer.
func (x *explainer) merge(found []paired) []Answer {
	var out []Answer
	total := 0
	for _, p := range found {
		total += p.pairs.Count
	}
	for _, p := range found {
		a := x.answer(p.decision)
		i := slices.IndexFunc(out, func(o Answer) bool { return sameAnswer(o, a, *o.Pairs, p.pairs) })
		if i < 0 {
			pairs := p.pairs
			pairs.Of = total
			a.Pairs = &pairs
			out = append(out, a)
			continue
		}
		into := out[i].Pairs
		into.From, into.To = mergeNames(into.From, p.pairs.From), mergeNames(into.To, p.pairs.To)
		into.Count += p.pairs.Count
	}
	if len(out) == 1 {
		out[0].Pairs = nil
	}
	for _, a := range out {
		if a.Pairs != nil {
			a.Pairs.From, a.Pairs.To = a.Pairs.From[:min(maxNamed, len(a.Pairs.From))], a.Pairs.To[:min(maxNamed, len(a.Pairs.To))]
		}
	}
	return out
}

func mergeNames(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// sameAnswer reports whether two answers are one, whichever pods of the sides they are about.
func sameAnswer(a, b Answer, aPairs, bPairs Pairs) bool {
	if aPairs.Self != bPairs.Self {
		return false
	}
	a.Pairs, b.Pairs = nil, nil
	for _, r := range []*Reason{&a.Egress, &a.Ingress, &b.Egress, &b.Ingress} {
		r.Endpoint, r.NearMisses = "", nil
	}
	return reflect.DeepEqual(a, b)
}
