// Package policy is the vocabulary that every part of tierwall shares, and the
// compiled program: what policies mean for endpoints, ready to be evaluated or
// rendered. It does no I/O and depends on the standard library alone.
package policy

import "net/netip"

// Program is the compiled form of a cluster's policies, for one node or for all.
// It is a function of the current objects alone: equal objects give equal programs.
type Program struct {
	// Endpoints are the subjects, sorted by namespace and name. No two of them share an address.
	Endpoints []Endpoint
	// Classes are the programs of the endpoints, by direction; endpoints with equal programs share one.
	Classes [2]map[ClassID]*Class
	// Sets are the named addresses that rules refer to.
	Sets map[SetID]*Set
	// Hosts are the nodes with their addresses, sorted by name.
	Hosts []Host
	// Local are the pod CIDRs of the program's own node, or of all nodes. An address within
	// them that no endpoint has is one of a pod not yet known: Unknown says what it may do.
	Local []netip.Prefix
	// Unknown is the verdict for addresses in Local without an endpoint, in both directions.
	Unknown Verdict
}

// Endpoint is a pod's interface with its addresses, as a subject of policy.
type Endpoint struct {
	Namespace, Name string
	// Node is the name of the node that it runs on.
	Node string
	// Addrs are its addresses, sorted, at most one of each IP family.
	Addrs []netip.Addr
	// Class is the class of its program in each direction.
	Class [2]ClassID
}

// Key is the endpoint's namespace and name, as "namespace/name".
func (e Endpoint) Key() string { return e.Namespace + "/" + e.Name }

// Host is a node with its own addresses.
type Host struct {
	Name  string
	Addrs []netip.Addr
	// PodCIDRs are the networks of its own pods, sorted.
	PodCIDRs []netip.Prefix
}

// ClassID names a class by a full-width hash of its direction and content: equal programs have equal IDs.
type ClassID string

// Class is the program of one or more endpoints in one direction: tiers that
// are tried in order until one of them decides.
type Class struct {
	ID    ClassID
	Tiers []Tier
}

// TierName names a tier of the evaluation order.
type TierName string

// The tiers, in the order in which they are evaluated.
const (
	AdminTier         TierName = "Admin"
	NetworkPolicyTier TierName = "NetworkPolicy"
	BaselineTier      TierName = "Baseline"
	DefaultTier       TierName = "Default"
)

// Tier is an ordered list of rules; the first that matches decides. A flow that
// no rule matches gets Else, whose zero value denies.
type Tier struct {
	Name  TierName
	Rules []Rule
	Else  Verdict
	// ElseID says whose decision Else is.
	ElseID RuleID
}

// Rule is a match and a verdict. It matches a flow whose peer is in any of
// Peers and whose destination port is any of Ports.
type Rule struct {
	ID      RuleID
	Verdict Verdict
	// AnyPeer matches every address; Peers is empty then.
	AnyPeer bool
	// Peers are the sets that the peer's address must be in, at least one of them.
	Peers []SetID
	// AnyPort matches every protocol and port, ICMP included; Ports is empty then.
	AnyPort bool
	// Ports are the destination ports, at least one of which must match.
	Ports []Port
}

// RuleID leads from a rule back to the object and the field that it comes from.
type RuleID struct {
	// Kind is the object's kind, such as NetworkPolicy.
	Kind string
	// Namespace is empty for objects of the cluster.
	Namespace, Name string
	// Field is a JSON pointer into the object (RFC 6901), such as /spec/ingress/0.
	Field string
}

// Object is the kind and the name of the rule's object, such as "NetworkPolicy prod/backend".
func (id RuleID) Object() string {
	switch {
	case id.Name == "":
		return id.Kind
	case id.Namespace == "":
		return id.Kind + " " + id.Name
	}
	return id.Kind + " " + id.Namespace + "/" + id.Name
}

func (id RuleID) String() string {
	if id.Field == "" {
		return id.Object()
	}
	return id.Object() + " " + id.Field
}

// Problem is a field that could not be understood. What it would have allowed is denied.
type Problem struct {
	ID RuleID
	// Message says what is wrong and what would be right.
	Message string
}

func (p Problem) Error() string { return p.ID.String() + ": " + p.Message }
