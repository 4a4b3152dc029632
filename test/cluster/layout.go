package cluster

import (
	"fmt"
	"net/netip"
)

// Names and addresses of the lab. They are fixed: one lab runs at a time.
const (
	controlPlaneName = "tw-control-plane"
	hostLink         = "twlab0"

	apiPort       = 6443
	clusterDomain = "cluster.local"

	podCIDRs     = "10.244.0.0/16,fd00:10:244::/48"
	serviceCIDRs = "10.96.0.0/16,fd00:10:96::/112"
	apiService4  = "10.96.0.1"
	apiService6  = "fd00:10:96::1"
	dnsService4  = "10.96.0.10"
)

// nodeCount is the number of worker nodes.
const nodeCount = 2

// A place is where a machine sits on the lab's bridge, and what is behind it.
type place struct {
	name       string
	ip4, ip6   netip.Addr
	pod4, pod6 netip.Prefix // invalid for host and control plane
}

func bridgePlace(name string, n int) place {
	return place{
		name: name,
		ip4:  netip.MustParseAddr(fmt.Sprintf("10.200.0.%d", n)),
		ip6:  netip.MustParseAddr(fmt.Sprintf("fd00:10:200::%d", n)),
	}
}

func hostPlace() place         { return bridgePlace("host", 1) }
func controlPlanePlace() place { return bridgePlace(controlPlaneName, 2) }

// nodePlace is the place of worker node n, counted from 1.
func nodePlace(n int) place {
	p := bridgePlace(fmt.Sprintf("tw-node-%d", n), 10+n)
	p.pod4 = netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", n))
	p.pod6 = netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", n))
	return p
}

// apiURL is where everyone, the host too, finds the API server.
func apiURL() string {
	return fmt.Sprintf("https://%s:%d", controlPlanePlace().ip4, apiPort)
}
