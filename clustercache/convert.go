package clustercache

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Pod reduces a pod to what policy depends on.
func Pod(p *corev1.Pod) *compile.Pod {
	out := &compile.Pod{
		Namespace:      p.Namespace,
		Name:           p.Name,
		UID:            uid(p),
		Node:           p.Spec.NodeName,
		ServiceAccount: cmp.Or(p.Spec.ServiceAccountName, p.Spec.DeprecatedServiceAccount),
		Labels:         p.Labels,
		HostNetwork:    p.Spec.HostNetwork,
		Ended:          p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed,
		Terminating:    p.DeletionTimestamp != nil,
		Created:        p.CreationTimestamp.Unix(),
		Ports:          namedPorts(p),
	}
	out.Addrs = make([]netip.Addr, 0, len(p.Status.PodIPs))
	for _, ip := range p.Status.PodIPs {
		out.Addrs = appendAddr(out.Addrs, ip.IP)
	}
	slices.SortFunc(out.Addrs, netip.Addr.Compare)
	return out
}

// uid is the pod's UID as its kubelet knows it: that of a static pod is another than that of the
// object which mirrors it.
func uid(p *corev1.Pod) types.UID {
	if own := p.Annotations[corev1.MirrorPodAnnotationKey]; own != "" {
		return types.UID(own)
	}
	return p.UID
}

// namedPorts are the named ports of a pod's containers, and of those init
// containers that run beside them (KEP-753, sidecar containers).
func namedPorts(p *corev1.Pod) []compile.NamedPort {
	var out []compile.NamedPort
	add := func(c corev1.Container) {
		for _, port := range c.Ports {
			if protocol, ok := protocols[port.Protocol]; ok && port.Name != "" {
				out = append(out, compile.NamedPort{Name: port.Name, Protocol: protocol, Port: uint16(port.ContainerPort)})
			}
		}
	}
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for _, c := range p.Spec.Containers {
		add(c)
	}
	return out
}

var protocols = map[corev1.Protocol]policy.Protocol{
	"":                  policy.TCP,
	corev1.ProtocolTCP:  policy.TCP,
	corev1.ProtocolUDP:  policy.UDP,
	corev1.ProtocolSCTP: policy.SCTP,
}

// Namespace reduces a namespace to what policy depends on.
func Namespace(n *corev1.Namespace) *compile.Namespace {
	return &compile.Namespace{Name: n.Name, Labels: n.Labels}
}

// Node reduces a node to what policy depends on.
func Node(n *corev1.Node) *compile.Node {
	out := &compile.Node{Name: n.Name, Labels: n.Labels}
	for _, a := range n.Status.Addresses {
		out.Addrs = appendAddr(out.Addrs, a.Address)
	}
	cidrs := n.Spec.PodCIDRs
	if len(cidrs) == 0 && n.Spec.PodCIDR != "" {
		cidrs = []string{n.Spec.PodCIDR}
	}
	for _, c := range cidrs {
		if p, err := netip.ParsePrefix(c); err == nil {
			out.PodCIDRs = append(out.PodCIDRs, p.Masked())
		}
	}
	return out
}

// appendAddr adds an address unless it is there or is none: node addresses can
// be host names.
func appendAddr(addrs []netip.Addr, s string) []netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return addrs
	}
	a = a.Unmap().WithZone("")
	for _, have := range addrs {
		if have == a {
			return addrs
		}
	}
	return append(addrs, a)
}
