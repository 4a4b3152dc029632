package policy

// Verdict is what a rule says of a flow that it matches. Its zero value denies,
// so that a verdict nobody set lets nothing through.
type Verdict uint8

const (
	// Deny drops the flow silently.
	Deny Verdict = iota
	// Allow lets the flow pass in this direction; the other direction is judged on its own.
	Allow
	// Pass leaves the decision to the next tier (network-policy-api, ClusterNetworkPolicy).
	Pass
	// Audit lets the flow pass and has it reported as one that Deny would have dropped. It
	// is a default action; no rule says it.
	Audit
)

// Permits reports whether the verdict lets a flow pass in its direction.
func (v Verdict) Permits() bool { return v == Allow || v == Audit }

func (v Verdict) String() string {
	switch v {
	case Allow:
		return "Allow"
	case Pass:
		return "Pass"
	case Audit:
		return "Audit"
	default:
		return "Deny"
	}
}

// Direction is a flow's direction as its endpoint sees it.
type Direction uint8

const (
	// Ingress is what an endpoint receives.
	Ingress Direction = iota
	// Egress is what an endpoint sends.
	Egress
)

// Directions are both directions, in the order of their values.
var Directions = [...]Direction{Ingress, Egress}

func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}
