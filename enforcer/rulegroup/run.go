package rulegroup

import (
	"strconv"

	"github.com/tierwall/tierwall/policy"
)

// Run is consecutive rules of a tier with one verdict. All rules of NetworkPolicies are
// one, because they only ever allow.
type Run struct {
	Verdict policy.Verdict
	Rules   []policy.Rule
}

// SplitRuns are the runs of a tier's rules, in order.
func SplitRuns(rules []policy.Rule) []Run {
	var out []Run
	for i, r := range rules {
		if i == 0 || r.Verdict != rules[i-1].Verdict {
			out = append(out, Run{Verdict: r.Verdict})
		}
		out[len(out)-1].Rules = append(out[len(out)-1].Rules, r)
	}
	return out
}

// Term is a rule with one of its peers: any of a rule's terms matches what the rule matches.
type Term struct {
	Rule *policy.Rule
	// AnyPeer, or the set that the peer is in.
	AnyPeer bool
	Peer    policy.SetID
}

// SplitTerms are those of all rules.
func (u Run) SplitTerms() []Term {
	var out []Term
	for i := range u.Rules {
		r := &u.Rules[i]
		if r.AnyPeer {
			out = append(out, Term{Rule: r, AnyPeer: true})
			continue
		}
		for _, id := range r.Peers {
			out = append(out, Term{Rule: r, Peer: id})
		}
	}
	return out
}

// Key is the same for terms that match the same whoever is in which set.
func (t Term) Key() string {
	key := strconv.AppendBool([]byte(t.Peer+" "), t.AnyPeer)
	key = strconv.AppendBool(key, t.Rule.AnyPort)
	for _, p := range t.Rule.Ports {
		for _, n := range []int{int(p.Protocol), int(p.First), int(p.Last)} {
			key = strconv.AppendInt(append(key, ' '), int64(n), 10)
		}
		key = append(append(key, ' '), p.Named...)
	}
	return string(key)
}
