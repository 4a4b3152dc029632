// Package explain reports whether one side may reach another and why: by which rule
// of which policy in each direction, and what would have to be different. The
// verdicts are those of the evaluator on the compiled program; what would be
// otherwise is found by compiling what is otherwise. Where facts are missing that
// decide, all that can be is evaluated, and the answer is unknown unless all agree.
package explain

import (
	"errors"
	"reflect"

	"github.com/tierwall/tierwall/policy"
)

// Question is a flow in question.
type Question struct {
	From, To Side
	Port     Port
}

// Result is all that there is to say of a question.
type Result struct {
	// Verdict is allowed, audited, denied or unknown; or partly, where some pods are denied and others are not.
	Verdict string
	// Protocol is that of the port, which may have been asked by name alone.
	Protocol policy.Protocol
	Answers  []Answer
}

// Partly is the verdict where some of the answers are denied and others are not.
const Partly = "partly"

// Answer is the verdict on a flow, with its reasons.
type Answer struct {
	// Family is IPv4 or IPv6 where the answers of the two differ, else empty.
	Family string `json:"family,omitempty"`
	// Verdict is allowed, denied, unknown, or audited: it passes because a default action is Audit.
	Verdict string `json:"verdict"`
	Egress  Reason `json:"egress"`
	Ingress Reason `json:"ingress"`
	// Because are the facts that are missing where the verdict is unknown.
	Because []Unknown `json:"because,omitempty"`
	// Pairs are the pods that the answer is about, where not all pods of the sides have the same.
	Pairs *Pairs `json:"pairs,omitempty"`
}

// Reason is the verdict of one side's policies.
type Reason struct {
	Verdict string `json:"verdict"`
	// Endpoint is the pod that is judged, as "namespace/name"; empty where none is.
	Endpoint string          `json:"endpoint,omitempty"`
	Tier     policy.TierName `json:"tier,omitempty"`
	// Policy is kind and name of the policy that decides, Field a JSON pointer into it.
	Policy string `json:"policy,omitempty"`
	Field  string `json:"field,omitempty"`
	// Says is the reason in words.
	Says string `json:"says"`
	// NearMisses are rules that would allow it if one thing were otherwise; not of what is allowed.
	NearMisses []NearMiss `json:"nearMisses"`
}

// Explain answers the question for each IP family that both sides have, and for all pods of
// both; where these do not differ there is one answer.
func Explain(f *Facts, q Question) (Result, error) {
	var err error
	if q.Port.AnyProtocol {
		if q.Port.Protocol, err = f.protocolAt(q.To, q.Port); err != nil {
			return Result{}, err
		}
	}
	if q.From, err = f.resolve(q.From, q.Port, false); err != nil {
		return Result{}, err
	}
	if q.To, err = f.resolve(q.To, q.Port, true); err != nil {
		return Result{}, err
	}
	x := newExplainer(f, q)
	var byFamily [][]Answer
	var families []int
	for family := range 2 {
		if answers := x.answers(family); len(answers) > 0 {
			byFamily, families = append(byFamily, answers), append(families, family)
		}
	}
	if len(byFamily) == 0 {
		return Result{}, errors.New("the two sides have no addresses of the same IP family")
	}
	answers := x.mergeFamilies(byFamily, families)
	return Result{Verdict: overallVerdict(answers, f.families != [2]bool{}), Protocol: q.Port.Protocol, Answers: answers}, nil
}

var familyNames = [2]string{"IPv4", "IPv6"}

// mergeFamilies is one list of answers where both families have the same. Of a cluster that is not
// known to have either, the family is shown that the policies speak of.
func (x *explainer) mergeFamilies(byFamily [][]Answer, families []int) []Answer {
	if len(byFamily) == 1 || reflect.DeepEqual(byFamily[0], byFamily[1]) {
		return byFamily[0]
	}
	shown := x.facts.families
	if shown == [2]bool{} {
		if shown = x.namedFamilies(); shown == [2]bool{} {
			shown = [2]bool{true, true}
		}
	}
	var out []Answer
	for i, answers := range byFamily {
		if !shown[families[i]] {
			continue
		}
		for _, a := range answers {
			a.Family = familyNames[families[i]]
			out = append(out, a)
		}
	}
	return out
}

// namedFamilies are the families of the networks that the policies of the two sides name.
func (x *explainer) namedFamilies() (out [2]bool) {
	for d, side := range [2]Side{policy.Egress: x.question.From, policy.Ingress: x.question.To} {
		for _, m := range side.Members {
			own := x.all.endpoint(m)
			if own == nil {
				continue
			}
			networks, _ := x.all.setsOf(x.all.program.Classes[d][own.Class[d]])
			for _, s := range networks {
				for _, e := range s.Elements {
					out[familyOf(e.Prefix.Addr())] = true
				}
			}
		}
	}
	return out
}

// overallVerdict is the verdict on all answers. Where it is not known which families the cluster has, that one
// is denied says nothing of one that is not known.
func overallVerdict(answers []Answer, familiesKnown bool) string {
	count := map[string]int{}
	for _, a := range answers {
		count[a.Verdict]++
	}
	denied := count[verdictWord(policy.Deny)]
	switch {
	case denied == len(answers):
		return verdictWord(policy.Deny)
	case count[Unsure] > 0 && (denied == 0 || !familiesKnown && answers[0].Family != ""):
		return Unsure
	case denied > 0:
		return Partly
	case count[verdictWord(policy.Audit)] > 0:
		return verdictWord(policy.Audit)
	}
	return verdictWord(policy.Allow)
}

// verdictWord is a verdict in the answers. What is audited passes, and is reported as denied would be.
func verdictWord(v policy.Verdict) string {
	switch v {
	case policy.Allow:
		return "allowed"
	case policy.Audit:
		return "audited"
	default:
		return "denied"
	}
}
