package droplog

import (
	"log/slog"
	"net/netip"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// denial is a packet with the reason why it was denied, or would have been but for Audit.
type denial struct {
	report
	direction policy.Direction
	// peer is the endpoint on the other side, as "namespace/name", if it is known.
	peer string
	why  policy.Why
}

// explain says why the program denies a packet, or audits it. One that it allows was
// denied, or audited, by a program that was in force before.
func explain(e *eval.Evaluator, p report) denial {
	d := e.Decide(p.flow)
	if own := d.Egress.Endpoint; p.flow.Source == p.flow.Destination && own != "" { // by way of a Service
		d.Egress = e.Direction(own, policy.Egress, p.flow.Source, p.flow.Protocol, p.flow.DestinationPort)
		d.Ingress = e.Direction(own, policy.Ingress, p.flow.Source, p.flow.Protocol, p.flow.DestinationPort)
	}
	egress, ingress := denial{p, policy.Egress, d.Ingress.Endpoint, d.Egress}, denial{p, policy.Ingress, d.Egress.Endpoint, d.Ingress}
	switch {
	case p.way == spoofed: // who sent it is not who has the address
		return denial{p, policy.Egress, d.Ingress.Endpoint, policy.Why{Note: "the pod that sent it does not have its source address"}}
	case p.way == auditedEgress && d.Egress.Verdict == policy.Audit, p.way == denied && !d.Egress.Verdict.Permits():
		return egress
	case p.way == auditedIngress && d.Ingress.Verdict == policy.Audit, p.way == denied && !d.Ingress.Verdict.Permits():
		return ingress
	case p.way == denied:
		return denial{report: p, why: policy.Why{Verdict: policy.Allow, Note: "the program that is in force now allows it"}}
	default:
		return denial{report: p, why: policy.Why{Verdict: policy.Allow, Note: "the program that is in force now does not audit it"}}
	}
}

// explained reports whether the reason is known.
func (d denial) explained() bool { return d.why.Verdict != policy.Allow }

// peerAddr is the address on the other side.
func (d denial) peerAddr() netip.Addr {
	if d.direction == policy.Egress {
		return d.flow.Destination
	}
	return d.flow.Source
}

// attrs is the denial as a line of the log. What is empty is left out.
func (d denial) attrs() []slog.Attr {
	out := []slog.Attr{
		slog.String("source", d.flow.Source.String()), slog.String("destination", d.flow.Destination.String()),
		slog.String("protocol", d.flow.Protocol.String()),
	}
	if d.flow.Protocol.HasPorts() {
		out = append(out, slog.Int("sourcePort", int(d.sourcePort)), slog.Int("port", int(d.flow.DestinationPort)))
	}
	if d.explained() {
		out = append(out, slog.String("direction", d.direction.String()))
	}
	var policyName string
	if d.why.Rule.Name != "" {
		policyName = d.why.Rule.Object()
	}
	for _, a := range []struct{ key, value string }{
		{"endpoint", d.why.Endpoint}, {"peer", d.peer}, {"tier", string(d.why.Tier)},
		{"policy", policyName}, {"field", d.why.Rule.Field}, {"note", d.why.Note},
	} {
		if a.value != "" {
			out = append(out, slog.String(a.key, a.value))
		}
	}
	return out
}
