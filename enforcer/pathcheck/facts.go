// Package pathcheck finds ways to and from a node's pods that the packet filter's hooks do not see, so that the agent can
// say so. What it decides is a pure function of facts, which it reads from the kernel.
package pathcheck

import (
	"github.com/tierwall/tierwall/enforcer/spoof"
)

// Facts are what a node's kernel shows of the ways to and from pods.
type Facts struct {
	Links  []Link
	Routes []spoof.Route
	// Bridged reports whether the kernel hands bridged packets of IPv4 and of IPv6 to the packet filter, on all bridges
	// (net.bridge.bridge-nf-call-iptables and -ip6tables). False where br_netfilter is not loaded.
	Bridged [2]bool
	// Connections is how many connections are tracked, MaxConnections how many can be; 0 where that is not known.
	Connections, MaxConnections int
	// Flowtables are those that nftables has, as "family table name".
	Flowtables []string
	// Untracked are rules that keep packets from connection tracking.
	Untracked []string
	// BeforeIPVS says that the backend's rules judge a packet before IPVS replaces a Service's address.
	BeforeIPVS bool
	// Unread says what could not be read, by what it was.
	Unread map[string]error
}

// The indexes of the IP families in Facts and Link.
const (
	ipv4 = iota
	ipv6
)

// Link is an interface of the node.
type Link struct {
	spoof.Link
	// Bridged is as in Facts, for this bridge alone.
	Bridged [2]bool
	// Programs says which BPF programs see its packets before the packet filter does.
	Programs []string
}
