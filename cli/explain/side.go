package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/tierwall/tierwall/policy/compile"
)

// Side is one end of a flow.
type Side struct {
	// Name is "namespace/pod", "namespace/kind/name", or the address of what is no pod.
	Name string
	// Members are the pods and addresses that it can be.
	Members []Member
	// service is the Service that the side is, if it is one.
	service *corev1.Service
}

// memberKind is what is known of a member.
type memberKind uint8

const (
	// podMember is a pod with an address of its own.
	podMember memberKind = iota
	// hostMember is a pod on the network of its node, or the node.
	hostMember
	// addressMember is an address that may be anybody's.
	addressMember
	// unknownPod is a pod of which the address alone is known.
	unknownPod
	// unknownPeer is of nothing known.
	unknownPeer
)

// Member is a pod, or an address, of a side.
type Member struct {
	Name string
	// Addrs are its known addresses.
	Addrs []netip.Addr

	kind  memberKind
	pod   *compile.Pod
	addrs []netip.Addr // known, or placeholders
	// unlocated is true where addrs are placeholders; where is then what is known of the address.
	unlocated bool
	where     [2][]netip.Prefix
	port      uint16
	service   bool     // it is reached through a Service
	noPod     bool     // an EndpointSlice says that the address is no pod's
	maybe     *Unknown // why it may not be a member
	missing   *Unknown // what would tell more of a member that nothing is known of
}

// addr is the member's address of a family; invalid where it has none.
func (m Member) addr(family int) netip.Addr {
	for _, a := range m.addrs {
		if familyOf(a) == family {
			return a.Unmap()
		}
	}
	return netip.Addr{}
}

// Workloads are the words for kinds of workloads, as kubectl has them, and for Services.
var Workloads = map[string]string{
	"deploy": "Deployment", "deployment": "Deployment", "deployments": "Deployment", "sts": "StatefulSet", "statefulset": "StatefulSet", "statefulsets": "StatefulSet",
	"ds": "DaemonSet", "daemonset": "DaemonSet", "daemonsets": "DaemonSet", "rs": "ReplicaSet", "replicaset": "ReplicaSet", "replicasets": "ReplicaSet",
	"job": "Job", "jobs": "Job", "cronjob": "CronJob", "cronjobs": "CronJob", "cj": "CronJob", "rc": "ReplicationController", "replicationcontroller": "ReplicationController",
	"pod": "Pod", "pods": "Pod", "po": "Pod", "svc": "Service", "service": "Service", "services": "Service",
}

// Finder finds sides.
type Finder struct {
	Facts *Facts
	// Namespace is that of names without one.
	Namespace string
}

// Find finds what a text means: an address, namespace/pod, pod, kind/name or namespace/kind/name.
func (f Finder) Find(text string) (Side, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		if a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return Side{}, fmt.Errorf("%s is no address by which policies know anybody", text)
		}
		return f.Facts.at(a.Unmap()), nil
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
		return Side{}, fmt.Errorf("%q: want namespace/pod, namespace/deployment/name, namespace/svc/name or an address", text)
	}
	if kind == "Service" {
		return f.Facts.serviceNamed(text, namespace, name)
	}
	return f.named(text, kind, namespace, name)
}

func (f Finder) named(text, kind, namespace, name string) (Side, error) {
	names := []string{name}
	if kind != "Pod" {
		names = f.Facts.podsOf(kind, namespace, name)
	} else if !f.hasPod(namespace, name) {
		names = f.podsOfAnyKind(namespace, name) // a folder has workloads where a cluster has pods
	}
	var out Side
	ended := 0
	for _, p := range f.Facts.snapshot.Pods {
		switch {
		case p.Namespace != namespace || !slices.Contains(names, p.Name):
		case p.Ended:
			ended++
		default:
			out.Members = append(out.Members, f.Facts.member(p))
		}
	}
	switch n := len(out.Members); {
	case n == 0 && ended > 0:
		return Side{}, fmt.Errorf("%s has ended, and has no address any more", text)
	case n == 0:
		return Side{}, fmt.Errorf("there is no %s; %s", text, f.near(namespace))
	case n == 1 || isStandIn(out.Members[0].pod):
		out.Name = out.Members[0].Name
	default:
		out.Name = namespace + "/" + strings.ToLower(kind) + "/" + name
	}
	return out, nil
}

func (f Finder) hasPod(namespace, name string) bool {
	return slices.ContainsFunc(f.Facts.snapshot.Pods, func(p *compile.Pod) bool { return p.Namespace == namespace && p.Name == name })
}

// podsOfAnyKind are the stand-ins of the first workload of the name.
func (f Finder) podsOfAnyKind(namespace, name string) []string {
	var out []string
	workload := ""
	for _, p := range f.Facts.snapshot.Pods {
		base, _, _ := strings.Cut(p.Name, "#")
		if _, of, ok := strings.Cut(base, "/"); !ok || p.Namespace != namespace || of != name || workload != "" && workload != base {
			continue
		}
		workload = base
		out = append(out, p.Name)
	}
	return out
}

// isStandIn reports whether the pod stands for those of a workload.
func isStandIn(p *compile.Pod) bool { return p != nil && strings.Contains(p.Name, "/") }

// member is a pod as a member of a side.
func (f *Facts) member(p *compile.Pod) Member {
	m := Member{Name: p.Namespace + "/" + p.Name, pod: p, addrs: p.Addrs, unlocated: f.unlocated[p.Namespace+"/"+p.Name]}
	if p.HostNetwork {
		m.kind = hostMember
	}
	if !m.unlocated {
		m.Addrs = p.Addrs
		return m
	}
	for family := range m.where {
		m.where[family] = f.podNetworks(family)
		if m.kind == hostMember {
			m.where[family] = ofFamily(f.Networks.Nodes, family)
		}
	}
	return m
}

// at is the pod that has an address, or the address itself.
func (f *Facts) at(a netip.Addr) Side {
	if svc := f.serviceAt(a); svc != nil {
		return Side{Name: serviceName(svc), service: svc}
	}
	m := f.located(a)
	return Side{Name: m.Name, Members: []Member{m}}
}

// located is the pod whose address it is, or the address itself.
func (f *Facts) located(a netip.Addr) Member {
	if e := endpointAt(f.program, a); e != nil && !f.unlocated[e.Key()] {
		for _, p := range f.snapshot.Pods {
			if p.Namespace == e.Namespace && p.Name == e.Name {
				m := f.member(p)
				m.Addrs, m.addrs = []netip.Addr{a}, []netip.Addr{a}
				return m
			}
		}
	}
	return Member{Name: a.String(), kind: addressMember, Addrs: []netip.Addr{a}, addrs: []netip.Addr{a}}
}

// assumedAt is the pod as it would be if the address were its own.
func (f *Facts) assumedAt(p *compile.Pod, a netip.Addr) Member {
	m := f.member(p)
	if m.unlocated {
		m.where = [2][]netip.Prefix{}
		m.where[familyOf(a)] = []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
		m.Addrs = []netip.Addr{a}
		m.addrs = []netip.Addr{m.addr(familyOf(a))}
	}
	return m
}

// near says what there is instead.
func (f Finder) near(namespace string) string {
	const most = 8
	var names []string
	for _, p := range f.Facts.snapshot.Pods {
		if p.Namespace == namespace && !strings.Contains(p.Name, "#") {
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
