// Package effect says what a change of the cluster's objects opens and closes:
// what guardrails judge. It is pure, and compiles policies with package compile
// alone, so that what is judged is what will be enforced.
package effect

import (
	"github.com/tierwall/tierwall/policy"
)

// MaxRows is how many rows Added and Removed hold each; more than that are cut
// off and Truncated is set.
const MaxRows = 500

// Effect is what a change opens and closes. Its JSON form is input.effect of a
// guardrail. It never reports less than the change opens: where it cannot be
// exact it reports more, and where it can do neither it is not Complete.
type Effect struct {
	// Complete is false when something could not be computed; Incomplete says what.
	Complete bool `json:"complete"`
	// Incomplete says in words what could not be computed.
	Incomplete []string `json:"incomplete"`
	// Truncated is true when rows were left out of Added or Removed.
	Truncated bool `json:"truncated"`
	// Added are the ports that became reachable, Removed those that no longer are.
	Added   []Row `json:"added"`
	Removed []Row `json:"removed"`
	// NewlyIsolated are the subjects that a NetworkPolicy selects now and none did before;
	// NoLongerIsolated those that none selects any more: their default action applies.
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

// directionOf is a direction as rows show it.
var directionOf = map[policy.Direction]Direction{policy.Ingress: Ingress, policy.Egress: Egress}

// Row is a group of flows that one side's policies newly allow (or no longer do).
type Row struct {
	// Direction is the side whose policies say so: ingress of To or egress of From.
	Direction Direction `json:"direction"`
	From      Peer      `json:"from"`
	To        Peer      `json:"to"`
	// Ports are such as "TCP/5432", "TCP/8000-8080", or "any": every port of every
	// protocol is open now and not all were before. "TCP/http" is a named port of pods that
	// do not exist yet, and can turn out to be any number; "ICMP" all protocols without ports.
	Ports []string `json:"ports"`
	// Potential is true when the flow cannot happen at present: one of the sides has no
	// pods, or Blocked.
	Potential bool `json:"potential"`
	// Blocked is true when the policies of the other side let none of Ports pass at present.
	// An ingress row that opens a protected pod matters all the same.
	Blocked bool `json:"blocked"`
	// Via are the rules that allow it.
	Via []Ref `json:"via"`
}

// Kind is what a Peer stands for.
type Kind string

const (
	// Workload is one or more existing pods with the same namespace, role and labels.
	Workload Kind = "workload"
	// Class is pods that could exist and that a selector would match.
	Class Kind = "class"
	// CIDR is a network, of addresses that are no pod's.
	CIDR Kind = "cidr"
)

// Peer is one side of a row.
type Peer struct {
	Kind Kind `json:"kind"`
	// Namespace is empty for networks, and for pods of a namespace that does not exist yet.
	Namespace string `json:"namespace"`
	// NamespaceLabels are the namespace's, or those that a selector asks of one not there yet.
	NamespaceLabels map[string]string `json:"namespaceLabels"`
	// Name is the first pod's name, or the network in CIDR notation.
	Name string `json:"name"`
	// Except are networks within a network that the row is not about.
	Except []string `json:"except,omitempty"`
	// Role is the tier role, as computed from TierRoles.
	Role string `json:"role"`
	// Labels are those labels that some selector mentions, with the computed role. Of pods
	// that no selector can tell apart they are those that all of them have.
	Labels map[string]string `json:"labels"`
	// Pods is how many pods there are.
	Pods int `json:"pods"`
}

// Ref names a field of a policy.
type Ref struct {
	// Policy is kind and name, such as "NetworkPolicy prod/backend", or says what decided
	// where no policy did, such as "default action of namespace prod".
	Policy string `json:"policy"`
	// Rule is a JSON pointer into the policy (RFC 6901).
	Rule string `json:"rule"`
	// By is the other policy, and its rule, that a finding of Lint is about.
	By string `json:"by,omitempty"`
}

// Isolation is a group of pods that became isolated in a direction, or no longer is.
type Isolation struct {
	Direction Direction `json:"direction"`
	Subject   Peer      `json:"subject"`
}

// Roles sums up the rows by tier role.
type Roles struct {
	// Added is source role, destination role, ports. Egress rows that are blocked are left
	// out: the ingress row that would unblock them is reported when it comes.
	Added map[string]map[string][]string `json:"added"`
}

// Lint is what looks wrong with the changed policies though it is allowed.
type Lint struct {
	// SelectsNothing is true when a changed policy selects no pod there is.
	SelectsNothing bool `json:"selectsNothing"`
	// DeadPeers are the peers of changed policies that match no pod there is.
	DeadPeers []Ref `json:"deadPeers"`
	// NearMatches are pods that the selectors of both would match but for one reason.
	NearMatches []NearMatch `json:"nearMatches"`
	// NamedPortsUnresolved are the port names that no destination there is has.
	NamedPortsUnresolved []Ref `json:"namedPortsUnresolved"`
	// ShadowedBy are the rules of changed policies that never decide, with the rules that do,
	// some of which decide otherwise. RedundantWith are those where all decide the same.
	ShadowedBy    []Ref `json:"shadowedBy"`
	RedundantWith []Ref `json:"redundantWith"`
	// PriorityTies are the changed ClusterNetworkPolicies for whose pods there is another one
	// of the same tier and priority.
	PriorityTies []Ref `json:"priorityTies"`
}

// NearMatch is pods that a selector without pods would match but for the reason.
type NearMatch struct {
	// Policy and Rule are as in a Ref.
	Policy string `json:"policy"`
	Rule   string `json:"rule"`
	Reason Reason `json:"reason"`
	// Pod is the first of them by name, such as "kube-system/etcd-0", and Pods how many there are.
	Pod  string `json:"pod"`
	Pods int    `json:"pods"`
}

// Reason is why a pod that has the labels which a selector asks for is not selected.
type Reason string

const (
	// OnHostNetwork is a pod on the host network, to which policies do not apply.
	OnHostNetwork Reason = "hostNetwork"
	// HasEnded is a pod of the phase Succeeded or Failed.
	HasEnded Reason = "ended"
	// InOtherNamespace is a pod of a namespace that the selector is not about.
	InOtherNamespace Reason = "otherNamespace"
)

// unknownEffect is the effect of a change that nothing is known of.
func unknownEffect(why ...string) Effect {
	return Effect{Incomplete: why, Roles: Roles{Added: map[string]map[string][]string{}}, Lint: emptyLint()}.withoutNil()
}

// emptyEffect is the effect of a change that is known to do nothing.
func emptyEffect() Effect {
	e := unknownEffect()
	e.Complete = true
	return e
}

func emptyLint() Lint {
	return Lint{DeadPeers: []Ref{}, NearMatches: []NearMatch{}, NamedPortsUnresolved: []Ref{}, ShadowedBy: []Ref{}, RedundantWith: []Ref{}, PriorityTies: []Ref{}}
}

// withoutNil has an empty list where there would be none, as its JSON form must.
func (e Effect) withoutNil() Effect {
	e.Incomplete = append([]string{}, e.Incomplete...)
	e.Added, e.Removed = append([]Row{}, e.Added...), append([]Row{}, e.Removed...)
	e.NewlyIsolated = append([]Isolation{}, e.NewlyIsolated...)
	e.NoLongerIsolated = append([]Isolation{}, e.NoLongerIsolated...)
	return e
}

// WithoutOpenings is the effect of a change that is known to open nothing, whatever else of it is unknown.
func WithoutOpenings(e Effect) Effect {
	e.Complete, e.Truncated, e.Incomplete = true, false, nil
	e.Added, e.NoLongerIsolated, e.Roles = nil, nil, unknownEffect().Roles
	return e.withoutNil()
}
