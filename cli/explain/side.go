package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Side is one end of a flow.
type Side struct {
	// Name is "namespace/pod", or the address of what is no pod.
	Name string
	// Addrs are its addresses, at most one of each IP family.
	Addrs []netip.Addr
}

// Workloads are the words for kinds of workloads, as kubectl has them.
var Workloads = map[string]string{
	"deploy": "Deployment", "deployment": "Deployment", "sts": "StatefulSet", "statefulset": "StatefulSet",
	"ds": "DaemonSet", "daemonset": "DaemonSet", "rs": "ReplicaSet", "replicaset": "ReplicaSet", "job": "Job",
	"cronjob": "CronJob", "cj": "CronJob", "rc": "ReplicationController", "replicationcontroller": "ReplicationController",
	"pod": "Pod", "po": "Pod",
}

// Finder finds sides in a snapshot in which every pod has an address.
type Finder struct {
	Snapshot *compile.Snapshot
	// Namespace is that of names without one.
	Namespace string
	// PodsOf are the names of the pods of a workload.
	PodsOf func(kind, namespace, name string) []string
}

// Find finds what a text means: an address, namespace/pod, pod, kind/name or namespace/kind/name.
func (f Finder) Find(text string) (Side, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return f.at(a.Unmap()), nil
	}
	parts := strings.Split(text, "/")
	namespace, kind, name := f.Namespace, "Pod", parts[len(parts)-1]
	switch {
	case len(parts) == 2 && Workloads[parts[0]] != "":
		kind = Workloads[parts[0]]
	case len(parts) == 2:
		namespace = parts[0]
	case len(parts) == 3 && Workloads[parts[1]] != "":
		namespace, kind = parts[0], Workloads[parts[1]]
	case len(parts) != 1:
		return Side{}, fmt.Errorf("%q: want namespace/pod, namespace/deployment/name or an address", text)
	}
	return f.named(text, kind, namespace, name)
}

func (f Finder) named(text, kind, namespace, name string) (Side, error) {
	names := []string{name}
	if kind != "Pod" {
		names = f.PodsOf(kind, namespace, name)
	}
	known := map[string]bool{}
	for _, p := range f.Snapshot.Pods {
		if p.Namespace != namespace {
			continue
		}
		if slices.Contains(names, p.Name) && !p.Ended {
			return side(p)
		}
		known[p.Name] = true
	}
	if kind == "Pod" { // a folder has workloads where a cluster has pods
		for _, p := range f.Snapshot.Pods {
			if _, of, ok := strings.Cut(p.Name, "/"); ok && p.Namespace == namespace && of == name {
				return side(p)
			}
		}
	}
	return Side{}, fmt.Errorf("there is no %s; %s", text, f.near(namespace))
}

func side(p *compile.Pod) (Side, error) {
	name := p.Namespace + "/" + p.Name
	if len(p.Addrs) == 0 {
		return Side{}, fmt.Errorf("%s is on the network of its node: give the node's address instead", name)
	}
	return Side{Name: name, Addrs: p.Addrs}, nil
}

// near says what there is instead.
func (f Finder) near(namespace string) string {
	const most = 8
	var names []string
	for _, p := range f.Snapshot.Pods {
		if p.Namespace == namespace {
			names = append(names, p.Namespace+"/"+p.Name)
		}
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return fmt.Sprintf("there are no pods in namespace %s", namespace)
	case len(names) > most:
		return fmt.Sprintf("there are %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return "there are " + strings.Join(names, ", ")
}

// at is the pod that has an address, or the address itself.
func (f Finder) at(a netip.Addr) Side {
	program, _ := compile.Compile(f.Snapshot, "")
	if e := endpointAt(program, a); e != nil {
		return Side{Name: e.Key(), Addrs: []netip.Addr{a}}
	}
	return Side{Name: a.String(), Addrs: []netip.Addr{a}}
}

// reserved are where addresses are taken from when nodes have no networks for
// pods (RFC 1112, section 4; RFC 6666), as package effect takes them.
var reserved = []netip.Prefix{netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("100::/64")}

// WithAddresses is the snapshot with an address, in each family that the cluster
// has, for every pod that has none yet, from the networks of the nodes' pods.
func WithAddresses(s *compile.Snapshot) *compile.Snapshot {
	out := *s
	out.Pods = nil
	pools, taken := poolsOf(s)
	for _, p := range s.Pods {
		if len(p.Addrs) == 0 && !p.HostNetwork && !p.Ended {
			renewed := *p
			for i := range pools {
				renewed.Addrs = append(renewed.Addrs, take(&pools[i], taken))
			}
			p = &renewed
		}
		out.Pods = append(out.Pods, p)
	}
	return &out
}

// pool is a network, and the address in it that is looked at next.
type pool struct {
	network netip.Prefix
	next    netip.Addr
}

func poolsOf(s *compile.Snapshot) ([]pool, map[netip.Addr]bool) {
	taken := map[netip.Addr]bool{}
	networks := map[bool]netip.Prefix{} // by whether it is IPv4
	for _, p := range s.Pods {
		for _, a := range p.Addrs {
			taken[a.Unmap()] = true
			if _, ok := networks[a.Unmap().Is4()]; !ok {
				networks[a.Unmap().Is4()] = netip.Prefix{}
			}
		}
	}
	for _, n := range s.Nodes {
		for _, c := range n.PodCIDRs {
			if !networks[c.Addr().Is4()].IsValid() {
				networks[c.Addr().Is4()] = c
			}
		}
	}
	var out []pool
	for i, v4 := range []bool{true, false} {
		n, used := networks[v4]
		if !used && len(networks) > 0 {
			continue
		}
		if !n.IsValid() {
			n = reserved[i]
		}
		out = append(out, pool{n, n.Addr().Next()})
	}
	return out, taken
}

// take is an address of the pool, or beyond it when it has none left, that no pod has.
func take(p *pool, taken map[netip.Addr]bool) netip.Addr {
	for taken[p.next] {
		p.next = p.next.Next()
	}
	a := p.next
	taken[a] = true
	return a
}

// ParsePort reads such as 5432/TCP, TCP/5432, 53/udp, 8080 or icmp.
func ParsePort(text string) (policy.Protocol, uint16, error) {
	number, name, both := strings.Cut(text, "/")
	if both && name != "" && name[0] >= '0' && name[0] <= '9' {
		number, name = name, number
	}
	if !both {
		name = "TCP"
		if _, ok := protocols[strings.ToUpper(number)]; ok {
			number, name = "", number
		}
	}
	protocol, ok := protocols[strings.ToUpper(name)]
	if !ok {
		return 0, 0, fmt.Errorf("port %q: there is no protocol %q; want TCP, UDP, SCTP or ICMP", text, name)
	}
	if !protocol.HasPorts() && number == "" {
		return protocol, 0, nil
	}
	var port uint16
	if _, err := fmt.Sscanf(number, "%d", &port); err != nil || port == 0 || fmt.Sprint(port) != number || !protocol.HasPorts() {
		return 0, 0, fmt.Errorf("port %q: want a number from 1 to 65535 and a protocol, such as 5432/TCP", text)
	}
	return protocol, port, nil
}

var protocols = map[string]policy.Protocol{"TCP": policy.TCP, "UDP": policy.UDP, "SCTP": policy.SCTP, "ICMP": policy.ICMP, "ICMPV6": policy.ICMPv6}
