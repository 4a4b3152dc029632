package effect

import (
	"github.com/tierwall/tierwall/policy"
)

// MaxRows bounds the rows of Added, and those of Removed. Truncated is set if there are more.
const MaxRows = 500

// Effect is what a change opens and closes. Its JSON form is input.effect of a guardrail. It never reports less than
// the change opens: where it cannot be exact it reports more, and otherwise it is not Complete.
type Effect struct {
	// Complete is false if something could not be computed; Incomplete says what.
	Complete bool `json:"complete"`
	// Incomplete describes what could not be computed.
	Incomplete []string `json:"incomplete"`
	// Truncated is true if rows were left out of Added or Removed.
	Truncated bool `json:"truncated"`
	// Added are the ports that became reachable, and Removed those that no longer are.
	Added   []Row `json:"added"`
	Removed []Row `json:"removed"`
	// NewlyIsolated are the subjects that a NetworkPolicy selects after the change, and none did before.
	// NoLongerIsolated are those that none selects any more: their default action applies.
	NewlyIsolated    []Isolation `json:"newlyIsolated"`
	NoLongerIsolated []Isolation `json:"noLongerIsolated"`
	Roles            Roles       `json:"roles"`
	Lint             Lint        `json:"lint"`
}

// Direction is the side of a row whose policy changed.
type Direction string

const (
	// Ingress rows come from the policies of the row's To.
	Ingress Direction = "ingress"
	// Egress rows come from the policies of the row's From.
	Egress Direction = "egress"
)

// directionOf maps directions to those of rows.
var directionOf = map[policy.Direction]Direction{policy.Ingress: Ingress, policy.Egress: Egress}

// Row is a group of flows that one side's policies newly allow, or no longer allow.
type Row struct {
	// Direction is the side whose policies decide: ingress of To or egress of From.
	Direction Direction `json:"direction"`
	From      Peer      `json:"from"`
	To        Peer      `json:"to"`
	// Ports are such as "TCP/5432", "TCP/8000-8080", or "any": every port of every protocol is open, and not all were
	// before. "TCP/http" is a named port of pods that do not exist yet, and may have any number. "ICMP" is all
	// protocols without ports.
	Ports []string `json:"ports"`
	// Potential is true if the flow cannot happen at present, because one of the sides has no pods or the row is
	// Blocked.
	Potential bool `json:"potential"`
	// Blocked is true if the policies of the other side allow none of Ports at present. An ingress row that opens a
	// protected pod matters all the same.
	Blocked bool `json:"blocked"`
	// Via are the rules that allow it.
	Via []Ref `json:"via"`
}

// Kind is what a Peer stands for.
type Kind string

const (
	// Workload is one or more existing pods with the same namespace, role and labels.
	Workload Kind = "workload"
	// Class is hypothetical pods that a selector would match.
	Class Kind = "class"
	// CIDR is a network, without the addresses of pods.
	CIDR Kind = "cidr"
)

// Peer is one side of a row.
type Peer struct {
	Kind Kind `json:"kind"`
	// Namespace is empty for networks, and for pods of a namespace that does not exist yet.
	Namespace string `json:"namespace"`
	// NamespaceLabels are the labels of the namespace, or those that a selector requires of a hypothetical one.
	NamespaceLabels map[string]string `json:"namespaceLabels"`
	// Name is the first pod's name, or the network in CIDR notation.
	Name string `json:"name"`
	// Except are networks within the network that the row does not cover.
	Except []string `json:"except,omitempty"`
	// Role is the tier role, as computed from TierRoles.
	Role string `json:"role"`
	// Labels are the labels that some selector mentions, with the computed role. For pods that no selector can tell
	// apart they are those that all of them have.
	Labels map[string]string `json:"labels"`
	// Pods is the number of pods.
	Pods int `json:"pods"`
}

// Ref names a field of a policy.
type Ref struct {
	// Policy is kind and name, such as "NetworkPolicy prod/backend". Where no policy decided it describes what did,
	// such as "default action of namespace prod".
	Policy string `json:"policy"`
	// Rule is a JSON pointer into the policy (RFC 6901).
	Rule string `json:"rule"`
	// By is the other policy, and its rule, in findings of Lint.
	By string `json:"by,omitempty"`
}

// Isolation is a group of pods that became isolated in a direction, or no longer is.
type Isolation struct {
	Direction Direction `json:"direction"`
	Subject   Peer      `json:"subject"`
}

// Roles aggregates the rows by tier role.
type Roles struct {
	// Added maps source role and destination role to ports. Blocked egress rows are left out: the ingress row that
	// unblocks them is reported when it comes.
	Added map[string]map[string][]string `json:"added"`
}

// Lint is what looks wrong with the changed policies.
type Lint struct {
	// SelectsNothing is true if a changed policy selects no existing pod.
	SelectsNothing bool `json:"selectsNothing"`
	// DeadPeers are the peers of changed policies that match no existing pod.
	DeadPeers []Ref `json:"deadPeers"`
	// NearMatches are pods that these selectors would match but for one reason.
	NearMatches []NearMatch `json:"nearMatches"`
	// NamedPortsUnresolved are the port names that no existing destination has.
	NamedPortsUnresolved []Ref `json:"namedPortsUnresolved"`
	// ShadowedBy are the rules of changed policies that never decide, with those that decide instead, some with
	// another verdict. RedundantWith are the rules in whose place all decide the same.
	ShadowedBy    []Ref `json:"shadowedBy"`
	RedundantWith []Ref `json:"redundantWith"`
	// PriorityTies are the changed ClusterNetworkPolicies that share tier, priority and pods with another one.
	PriorityTies []Ref `json:"priorityTies"`
}

// NearMatch is pods that a selector without pods would match but for one reason.
type NearMatch struct {
	// Policy and Rule are as in a Ref.
	Policy string `json:"policy"`
	Rule   string `json:"rule"`
	Reason Reason `json:"reason"`
	// Pod is the first of them by name, such as "kube-system/etcd-0". Pods is their number.
	Pod  string `json:"pod"`
	Pods int    `json:"pods"`
}

// Reason is why a pod with matching labels is not selected.
type Reason string

const (
	// OnHostNetwork is a pod on the host network, to which policies do not apply.
	OnHostNetwork Reason = "hostNetwork"
	// HasEnded is a pod in phase Succeeded or Failed.
	HasEnded Reason = "ended"
	// InOtherNamespace is a pod in a namespace that the selector does not cover.
	InOtherNamespace Reason = "otherNamespace"
)

// unknownEffect returns the effect of a change of which nothing is known.
func unknownEffect(why ...string) Effect {
	return Effect{Incomplete: why, Roles: Roles{Added: map[string]map[string][]string{}}, Lint: emptyLint()}.withoutNil()
}

// emptyEffect returns the effect of a change that does nothing.
func emptyEffect() Effect {
	e := unknownEffect()
	e.Complete = true
	return e
}

func emptyLint() Lint {
	return Lint{DeadPeers: []Ref{}, NearMatches: []NearMatch{}, NamedPortsUnresolved: []Ref{}, ShadowedBy: []Ref{}, RedundantWith: []Ref{}, PriorityTies: []Ref{}}
}

// withoutNil replaces nil lists by empty ones, for the JSON form.
func (e Effect) withoutNil() Effect {
	e.Incomplete = append([]string{}, e.Incomplete...)
	e.Added, e.Removed = append([]Row{}, e.Added...), append([]Row{}, e.Removed...)
	e.NewlyIsolated = append([]Isolation{}, e.NewlyIsolated...)
	e.NoLongerIsolated = append([]Isolation{}, e.NoLongerIsolated...)
	return e
}

// WithoutOpenings returns the effect of a change that is known to open nothing, even if the effect is incomplete.
func WithoutOpenings(e Effect) Effect {
	e.Complete, e.Truncated, e.Incomplete = true, false, nil
	e.Added, e.NoLongerIsolated, e.Roles = nil, nil, unknownEffect().Roles
	return e.withoutNil()
}
