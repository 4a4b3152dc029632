package generate

import (
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/oracle"
)

// Objects are API objects that mean the snapshot, in one of the many ways to write it: ports
// in containers and sidecars, between others that do not count; nodes with names among
// their addresses; every phase that a pod may be in. Policies are those of the snapshot.
func Objects(r *rand.Rand, s *compile.Snapshot) *oracle.Cluster {
	c := &oracle.Cluster{
		NetworkPolicies:        s.NetworkPolicies,
		ClusterNetworkPolicies: s.ClusterNetworkPolicies,
		TierRoles:              s.TierRoles,
		Defaults:               s.Defaults,
	}
	for _, p := range s.Pods {
		c.Pods = append(c.Pods, podObject(r, p))
	}
	for _, n := range s.Namespaces {
		c.Namespaces = append(c.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}})
	}
	for _, n := range s.Nodes {
		c.Nodes = append(c.Nodes, nodeObject(r, n))
	}
	return c
}

func podObject(r *rand.Rand, p *compile.Pod) *corev1.Pod {
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID, Labels: p.Labels, CreationTimestamp: metav1.Unix(p.Created, 0)},
		Spec:       corev1.PodSpec{NodeName: p.Node, ServiceAccountName: p.ServiceAccount, HostNetwork: p.HostNetwork},
		Status:     corev1.PodStatus{Phase: pick(r, corev1.PodRunning, corev1.PodRunning, corev1.PodPending, corev1.PodUnknown)},
	}
	if p.Ended {
		out.Status.Phase = pick(r, corev1.PodSucceeded, corev1.PodFailed)
	}
	if p.Terminating {
		out.DeletionTimestamp = &metav1.Time{Time: metav1.Unix(p.Created+1, 0).Time}
	}
	for _, a := range p.Addrs {
		out.Status.PodIPs = append(out.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	if len(out.Status.PodIPs) > 0 {
		out.Status.PodIP = out.Status.PodIPs[0].IP
	}
	split := r.IntN(len(p.Ports) + 1)
	out.Spec.InitContainers = initContainers(r, p.Ports[:split])
	out.Spec.Containers = containers(r, p.Ports[split:])
	return out
}

// initContainers are sidecars with the ports (KEP-753), and one that has ended, whose
// ports are nobody's, however often it might have been started again (KEP-5307).
func initContainers(r *rand.Rand, ports []compile.NamedPort) []corev1.Container {
	var out []corev1.Container
	if r.IntN(3) == 0 {
		gone := compile.NamedPort{Name: pick(r, portNames...), Protocol: policy.TCP, Port: pick[uint16](r, 80, 8080, 53, 5432)}
		onFailure := corev1.ContainerRestartPolicyOnFailure
		out = append(out, corev1.Container{Name: "migrate", RestartPolicy: pick(r, nil, &onFailure), Ports: []corev1.ContainerPort{containerPort(r, gone)}})
	}
	if len(ports) > 0 {
		always := corev1.ContainerRestartPolicyAlways
		sidecar := corev1.Container{Name: "proxy", RestartPolicy: &always}
		for _, p := range ports {
			sidecar.Ports = append(sidecar.Ports, containerPort(r, p))
		}
		out = append(out, sidecar)
	}
	return out
}

// containers are two with the ports, and with one that has no name.
func containers(r *rand.Rand, ports []compile.NamedPort) []corev1.Container {
	split := r.IntN(len(ports) + 1)
	out := []corev1.Container{{Name: "main"}, {Name: "beside"}}
	for i, p := range ports {
		c := &out[0]
		if i >= split {
			c = &out[1]
		}
		c.Ports = append(c.Ports, containerPort(r, p))
	}
	out[1].Ports = append(out[1].Ports, corev1.ContainerPort{ContainerPort: 443})
	return out
}

func containerPort(r *rand.Rand, p compile.NamedPort) corev1.ContainerPort {
	out := corev1.ContainerPort{Name: p.Name, Protocol: corev1.Protocol(p.Protocol.String()), ContainerPort: int32(p.Port)}
	if out.Protocol == corev1.ProtocolTCP && r.IntN(2) == 0 {
		out.Protocol = "" // "Defaults to TCP."
	}
	return out
}

func nodeObject(r *rand.Rand, n *compile.Node) *corev1.Node {
	out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}}
	out.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: n.Name}}
	for _, a := range n.Addrs {
		kind := pick(r, corev1.NodeInternalIP, corev1.NodeInternalIP, corev1.NodeExternalIP)
		out.Status.Addresses = append(out.Status.Addresses, corev1.NodeAddress{Type: kind, Address: a.String()})
	}
	for _, p := range n.PodCIDRs {
		out.Spec.PodCIDRs = append(out.Spec.PodCIDRs, p.String())
	}
	if len(out.Spec.PodCIDRs) > 0 {
		out.Spec.PodCIDR = out.Spec.PodCIDRs[0]
	}
	return out
}
