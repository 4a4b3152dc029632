package effect

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// maxQuestions bounds the evaluations of a class for a port span. The effect of a change that needs more is not
// computed.
const maxQuestions = 100_000_000

// classAnswer holds the decisions of a class about one peer, by port span, evaluated on demand.
type classAnswer struct {
	program *policy.Program
	class   *policy.Class // the rules that match the peer
	peer    netip.Addr
	// why holds the numbers of decisions by segment, from 1 on; 0 is not evaluated yet.
	why []int32
	// starts are the spans at which a rule of the class begins or ends. The spans between two starts are a segment
	// and have one decision. If nil, each span is a segment.
	starts []int
}

// segmentAt returns the number of the segment of a span, and the first span of the next segment.
func (a *classAnswer) segmentAt(span, spans int) (number, next int) {
	if a.starts == nil {
		return span, span + 1
	}
	after, _ := slices.BinarySearch(a.starts, span+1)
	if after < len(a.starts) {
		spans = a.starts[after]
	}
	return after - 1, spans
}

// classEvaluator evaluates which port spans classes allow, until the context ends or a bound is reached.
type classEvaluator struct {
	ctx   context.Context // of the call that it serves
	spans []portSpan
	// firstSpans are the first spans of each protocol.
	firstSpans []int
	asked      int // evaluations so far
	whys       numbering[policy.Why]
	// stopped is why the evaluation was given up. Decisions after that are meaningless.
	stopped string
}

func newClassEvaluator(ctx context.Context, programs ...*policy.Program) *classEvaluator {
	spans := cutSpans(programs...)
	return &classEvaluator{ctx: ctx, spans: spans, firstSpans: firstSpansOf(spans), whys: newNumbering[policy.Why]()}
}

// newAnswer returns an answer without any decision yet.
func (e *classEvaluator) newAnswer(of *compiledState, class *policy.Class, peer netip.Addr) *classAnswer {
	a := &classAnswer{program: of.program, class: of.classSeenBy(class, peer), peer: peer}
	segments := len(e.spans)
	if a.starts = e.segmentStarts(a.class); a.starts != nil {
		segments = len(a.starts)
	}
	a.why = make([]int32, segments)
	return a
}

// segmentStarts returns the spans at which a rule of a class or a protocol begins, or a rule ends.
func (e *classEvaluator) segmentStarts(class *policy.Class) []int {
	out := slices.Clone(e.firstSpans)
	if class == nil {
		return out
	}
	for _, t := range class.Tiers {
		for _, r := range t.Rules {
			for _, p := range r.Ports {
				if p.Named != "" {
					return nil
				}
				out = e.appendSpan(out, p.Protocol, int(p.First))
				out = e.appendSpan(out, p.Protocol, int(p.Last)+1)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// appendSpan appends the span that begins with a port.
func (e *classEvaluator) appendSpan(to []int, protocol policy.Protocol, port int) []int {
	at := slices.Index(protocols, protocol)
	if at < 0 || port > policy.MaxPort {
		return to
	}
	first, end := e.firstSpans[at], e.firstSpans[at+1]
	i, _ := slices.BinarySearchFunc(e.spans[first:end], port, func(s portSpan, port int) int { return int(s.first) - port })
	return append(to, first+i)
}

// decisionFor returns the decision about a span. A nil class denies.
func (e *classEvaluator) decisionFor(a *classAnswer, span int) policy.Why {
	if e.stopped != "" {
		return policy.Why{}
	}
	at, _ := a.segmentAt(span, len(e.spans))
	if n := a.why[at]; n > 0 {
		return e.whys.values[n-1]
	}
	if e.asked++; e.asked > maxQuestions {
		e.stopped = fmt.Sprintf("policies would have to be asked about more than %d pairs of peers and ports", maxQuestions)
		return policy.Why{}
	}
	protocol := e.spans[span].protocol
	if protocol == policy.ICMP && a.peer.Is6() {
		protocol = policy.ICMPv6
	}
	why := eval.Class(a.program, a.class, a.peer, protocol, e.spans[span].first)
	a.why[at] = int32(e.whys.numberOf(why)) + 1
	return why
}

func (e *classEvaluator) allowsSpan(a *classAnswer, span int) bool {
	return e.decisionFor(a, span).Verdict.Permits()
}

// allowsAll reports whether every port of every protocol is allowed.
func (e *classEvaluator) allowsAll(a *classAnswer) bool {
	return !slices.ContainsFunc(protocols, func(p policy.Protocol) bool { return !e.allowsAllOf(a, p) })
}

// allowsAllOf reports whether every port of a protocol is allowed.
func (e *classEvaluator) allowsAllOf(a *classAnswer, p policy.Protocol) bool {
	for i, s := range e.spans {
		if s.protocol == p && !e.allowsSpan(a, i) {
			return false
		}
	}
	return true
}

// canContinue reports whether neither the context has ended nor a bound was reached.
func (e *classEvaluator) canContinue() bool {
	if e.stopped == "" && e.ctx.Err() != nil {
		e.stopped = timeoutReason(e.ctx)
	}
	return e.stopped == ""
}

func timeoutReason(ctx context.Context) string {
	return fmt.Sprintf("the time for computing the effect is over: %v", context.Cause(ctx))
}
