package pathcheck

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/spoof"
	"github.com/tierwall/tierwall/policy"
)

// Path is a kind of way to or from pods.
type Path string

// The paths that findings are about.
const (
	Bridge     Path = "bridge"
	Switch     Path = "switch"
	BPF        Path = "bpf"
	Flowtable  Path = "flowtable"
	Address    Path = "address"
	IPVS       Path = "ipvs"
	Untracked  Path = "untracked"
	Connection Path = "conntrack"
	Unknown    Path = "unknown"
)

// Paths are all that findings can be about.
var Paths = []Path{Bridge, Switch, BPF, Flowtable, Address, IPVS, Untracked, Connection, Unknown}

// Finding is something about a way to or from pods that an operator should know.
type Finding struct {
	Path Path
	// Open says that packets pass by it which no hook of ours sees.
	Open bool
	// Detail is what was found, and Remedy what to do about it.
	Detail, Remedy string
}

func (f Finding) String() string { return f.Detail + "; " + f.Remedy }

// Check returns what the facts mean for the pods of a program, open paths first.
func Check(f Facts, p *policy.Program) []Finding {
	links := make([]spoof.Link, len(f.Links))
	byName := map[string]Link{}
	for i, l := range f.Links {
		links[i], byName[l.Name] = l.Link, l
	}
	pods := spoof.PodInterfaces(links, f.Routes, spoof.PodNetworks(p))
	var out []Finding
	out = append(out, unreadFindings(f)...)
	for _, name := range pods.Shared {
		out = append(out, bridgeFindings(f, byName[name])...)
	}
	out = append(out, switchFindings(f, p)...)
	out = append(out, bpfFindings(byName, pods)...)
	out = append(out, addressFindings(f, byName, pods, p)...)
	out = append(out, flowtableFindings(f)...)
	out = append(out, ipvsFindings(f)...)
	out = append(out, conntrackFindings(f)...)
	slices.SortStableFunc(out, func(a, b Finding) int {
		switch {
		case a.Open == b.Open:
			return 0
		case a.Open:
			return -1
		default:
			return 1
		}
	})
	return out
}

// unreadFindings is open: what cannot be read may be.
func unreadFindings(f Facts) (out []Finding) {
	for what, err := range f.Unread {
		out = append(out, Finding{Unknown, true, fmt.Sprintf("whether a path is open is not known: reading %s: %v", what, err),
			"give the agent NET_ADMIN and the host's network, and the tools that its image has"})
	}
	slices.SortFunc(out, func(a, b Finding) int { return strings.Compare(a.Detail, b.Detail) })
	return out
}

// bridgeFindings: without br_netfilter, pods on one bridge reach each other past every hook. IPv6 matters whatever the pods'
// addresses are, since each has a link-local one.
func bridgeFindings(f Facts, l Link) (out []Finding) {
	for family, name := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
		if f.Bridged[family] || l.Bridged[family] {
			continue
		}
		out = append(out, Finding{Bridge, true, fmt.Sprintf("pods on the bridge %s reach each other past the packet filter: %s is 0 or br_netfilter is not loaded", l.Name, name),
			"modprobe br_netfilter; sysctl -w " + name + "=1; and have both done at boot"})
	}
	return out
}

// switches are kinds of interfaces behind which packets go from pod to pod without the node's IP layer.
var switches = map[string]string{"openvswitch": "Open vSwitch", "macvlan": "macvlan", "ipvlan": "ipvlan"}

func switchFindings(f Facts, p *policy.Program) (out []Finding) {
	isPod := spoof.PodNetworks(p)
	kinds := map[int]Link{}
	for _, l := range f.Links {
		if switches[l.Kind] != "" {
			kinds[l.Index] = l
		}
	}
	seen := map[int]bool{}
	for _, r := range f.Routes {
		if l, ok := kinds[r.Link]; ok && !r.Gateway && !r.Learned && isPod(r.To) && !seen[r.Link] {
			seen[r.Link] = true
			out = append(out, Finding{Switch, true, fmt.Sprintf("pods behind %s reach each other by %s, past the packet filter", l.Name, switches[l.Kind]),
				"use a network plugin that routes pods or has them on a Linux bridge"})
		}
	}
	return out
}

// bpfFindings: BPF sees packets before the packet filter and can send them past it. Whether a program does is not to be seen;
// Cilium's are known to.
func bpfFindings(links map[string]Link, pods spoof.Interfaces) (out []Finding) {
	_, cilium := links["cilium_host"]
	for _, name := range pods.Guarded() {
		if len(links[name].Programs) == 0 {
			continue
		}
		found := Finding{BPF, false, fmt.Sprintf("BPF programs see the packets of %s before the packet filter: %s", name, strings.Join(links[name].Programs, ", ")),
			"see that they redirect nothing"}
		if cilium {
			found.Open, found.Remedy = true, "Cilium sends packets past the packet filter: have it enforce policies, or chain it with a plugin that routes, with bpf.hostLegacyRouting=true"
		}
		if out = append(out, found); len(out) == maxNamed {
			break
		}
	}
	return out
}

// maxNamed is how many interfaces or addresses are named for one path.
const maxNamed = 5

// addressFindings finds those that are routed to a pod and that no pod shows: policy judges endpoints' addresses alone. Those
// within the node's networks for pods are denied where unknown pods are.
func addressFindings(f Facts, links map[string]Link, pods spoof.Interfaces, p *policy.Program) (out []Finding) {
	own := map[int]string{}
	for _, name := range pods.Own {
		own[links[name].Index] = name
	}
	known := map[netip.Addr]bool{}
	for _, e := range p.Endpoints {
		for _, a := range e.Addrs {
			known[a] = true
		}
	}
	for _, r := range f.Routes {
		a := r.To.Addr()
		name, ok := own[r.Link]
		local := slices.ContainsFunc(p.Local, func(n netip.Prefix) bool { return n.Contains(a) })
		if !ok || r.Learned || !r.To.IsSingleIP() || known[a] || local || a.Is6() && a.IsLinkLocalUnicast() {
			continue
		}
		known[a] = true
		if out = append(out, Finding{Address, true, fmt.Sprintf("%s is routed to the pod behind %s and is not among any pod's status.podIPs: no policy judges it", a, name),
			"have the network plugin give pods no addresses beyond those that it reports"}); len(out) == maxNamed {
			break
		}
	}
	return out
}

func flowtableFindings(f Facts) (out []Finding) {
	if len(f.Flowtables) > 0 {
		out = append(out, Finding{Flowtable, true, "established connections may pass by flowtables, past the forward hook: " + strings.Join(f.Flowtables, ", "),
			"delete them, or keep the interfaces of pods and the node's own links out of them"})
	}
	return out
}

// IPVSLink is the interface that has the addresses of Services where kube-proxy uses IPVS.
const IPVSLink = "kube-ipvs0"

func ipvsFindings(f Facts) (out []Finding) {
	if f.BeforeIPVS && slices.ContainsFunc(f.Links, func(l Link) bool { return l.Name == IPVSLink }) {
		out = append(out, Finding{IPVS, false, "kube-proxy uses IPVS and the backend is iptables: pods whose egress is isolated reach no Service that their policies allow by selector",
			"set enforcer.backend=nftables"})
	}
	return out
}

func conntrackFindings(f Facts) (out []Finding) {
	if f.MaxConnections > 0 && f.Connections >= f.MaxConnections {
		out = append(out, Finding{Connection, false, fmt.Sprintf("the connection table is full (%d): new connections are dropped", f.MaxConnections),
			"raise net.netfilter.nf_conntrack_max, or find who opens so many"})
	}
	if len(f.Untracked) > 0 {
		out = append(out, Finding{Untracked, false, "rules keep packets from connection tracking; their answers are judged as new packets, and no connection of theirs is cut: " +
			strings.Join(f.Untracked[:min(len(f.Untracked), maxNamed)], ", "), "see that none of them is about packets of pods"})
	}
	return out
}
