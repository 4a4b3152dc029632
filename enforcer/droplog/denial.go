package droplog

import (
	"log/slog"
	"net/netip"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// denial is a packet with the reason why it was denied, or would be denied without Audit.
type denial struct {
	loggedPacket
	direction policy.Direction
	// peer is the endpoint on the other side, as "namespace/name"; empty if unknown.
	peer string
	why  policy.Why
}

// explainDenial returns why the program denies or audits a packet. If it allows the packet, an earlier program denied or
// audited it.
func explainDenial(e *eval.Evaluator, p loggedPacket) denial {
	d := e.Decide(p.flow)
	if own := d.Egress.Endpoint; p.flow.Source == p.flow.Destination && own != "" { // through a Service
		d.Egress = e.Direction(own, policy.Egress, p.flow.Source, p.flow.Protocol, p.flow.DestinationPort)
		d.Ingress = e.Direction(own, policy.Ingress, p.flow.Source, p.flow.Protocol, p.flow.DestinationPort)
	}
	egress, ingress := denial{p, policy.Egress, d.Ingress.Endpoint, d.Egress}, denial{p, policy.Ingress, d.Egress.Endpoint, d.Ingress}
	switch {
	case p.kind == spoofed: // the sender does not own the address
		return denial{p, policy.Egress, d.Ingress.Endpoint, policy.Why{Note: "the pod that sent it does not have its source address"}}
	case p.kind == auditedEgress && d.Egress.Verdict == policy.Audit, p.kind == denied && !d.Egress.Verdict.Permits():
		return egress
	case p.kind == auditedIngress && d.Ingress.Verdict == policy.Audit, p.kind == denied && !d.Ingress.Verdict.Permits():
		return ingress
	case p.kind == denied:
		return denial{loggedPacket: p, why: policy.Why{Verdict: policy.Allow, Note: "the program that is in force now allows it"}}
	default:
		return denial{loggedPacket: p, why: policy.Why{Verdict: policy.Allow, Note: "the program that is in force now does not audit it"}}
	}
}

// isExplained reports whether the reason is known.
func (d denial) isExplained() bool { return d.why.Verdict != policy.Allow }

// peerAddr returns the address on the other side.
func (d denial) peerAddr() netip.Addr {
	if d.direction == policy.Egress {
		return d.flow.Destination
	}
	return d.flow.Source
}

// logAttributes returns the denial as attributes of a log line, without empty ones.
func (d denial) logAttributes() []slog.Attr {
	out := []slog.Attr{
		slog.String("source", d.flow.Source.String()), slog.String("destination", d.flow.Destination.String()),
		slog.String("protocol", d.flow.Protocol.String()),
	}
	if d.flow.Protocol.HasPorts() {
		out = append(out, slog.Int("sourcePort", int(d.sourcePort)), slog.Int("port", int(d.flow.DestinationPort)))
	}
	if d.isExplained() {
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
