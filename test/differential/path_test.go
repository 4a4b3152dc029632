package differential

import (
	"net/netip"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/oracle"
)

// hop is a hook that a flow's first packet meets on a node.
type hop struct {
	node, hook string
	// in is the interface that the packet came by.
	in string
}

// packet is one of a flow: the first, or one of the middle of the connection that it is by then.
type packet struct {
	policy.Flow
	in          string
	established bool
	// foreign says that the source is no address of the node that the packet is on.
	foreign bool
}

func (h hop) packet(f policy.Flow) packet { return packet{Flow: f, in: h.in} }

// end is one end of a flow: where it is attached, and whether it is the node itself. Without
// a node it is elsewhere.
type end struct {
	node   string
	itself bool
}

func endOf(c *oracle.Cluster, a netip.Addr) end {
	if p := oracle.PodAt(c, a); p != nil {
		for _, n := range c.Nodes {
			if n.Name == p.Spec.NodeName {
				return end{node: n.Name}
			}
		}
		return end{} // of a node that does not exist, where nothing is enforced
	}
	if n := oracle.NodeAt(c, a); n != nil {
		return end{n.Name, true}
	}
	if n := oracle.PodNetworkOf(c, a); n != nil {
		return end{node: n.Name} // a pod that nobody knows
	}
	return end{}
}

// path is the hooks that a flow meets on the nodes of its ends, with pods routed to one
// another by their nodes. What a pod sends to itself meets none, unless by way of a Service.
func path(c *oracle.Cluster, f policy.Flow) []hop {
	from, to := endOf(c, f.Source), endOf(c, f.Destination)
	if f.Source == f.Destination && oracle.PodAt(c, f.Source) != nil {
		return nil
	}
	in := "eth0"
	var hops []hop
	switch {
	case from.itself:
		hops = append(hops, hop{node: from.node, hook: "OUTPUT"})
		if to.node == from.node {
			in = "lo"
		}
	case from.node != "" && (from.node != to.node || !to.itself):
		hops = append(hops, hop{from.node, "FORWARD", "veth0"})
	}
	if from.node == to.node && !from.itself {
		in = "veth0"
	}
	switch {
	case to.itself:
		hops = append(hops, hop{to.node, "INPUT", in})
	case to.node != "" && to.node != from.node:
		hops = append(hops, hop{to.node, "FORWARD", in})
	}
	return hops
}
