package explain

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

func serviceName(s *corev1.Service) string { return s.Namespace + "/service/" + s.Name }

// serviceNamed is a Service as a side.
func (f *Facts) serviceNamed(text, namespace, name string) (Side, error) {
	var there []string
	for _, s := range f.services {
		if s.Namespace == namespace && s.Name == name {
			return Side{Name: serviceName(s), service: s}, nil
		}
		if s.Namespace == namespace {
			there = append(there, s.Name)
		}
	}
	if len(there) == 0 {
		return Side{}, fmt.Errorf("there is no %s; there are no Services in namespace %s", text, namespace)
	}
	return Side{}, fmt.Errorf("there is no %s; the Services in namespace %s are %s", text, namespace, strings.Join(there, ", "))
}

// serviceAt is the Service that has the address, if one has.
func (f *Facts) serviceAt(a netip.Addr) *corev1.Service {
	for _, s := range f.services {
		texts := append(slices.Concat(s.Spec.ClusterIPs, s.Spec.ExternalIPs), s.Spec.ClusterIP)
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
				texts = append(texts, in.IP)
			}
		}
		for _, text := range texts {
			if own, err := netip.ParseAddr(text); err == nil && own.Unmap() == a {
				return s
			}
		}
	}
	return nil
}

// resolve finds the members behind a Service for a port. As a source it is the pods behind it.
func (f *Facts) resolve(side Side, port Port, destination bool) (Side, error) {
	s := side.service
	if s == nil {
		return f.withPort(side, port, destination)
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return unresolved(side, Unknown{"what " + s.Spec.ExternalName + " is, for which " + side.Name + " is another name", "its address says so: ask about that"}), nil
	}
	var servicePort *corev1.ServicePort
	headless := s.Spec.ClusterIP == corev1.ClusterIPNone
	if destination {
		found, err := findServicePort(s, port)
		if err != nil && (!headless || port.Name != "") {
			return Side{}, err
		}
		servicePort = found
	}
	translated := port
	if servicePort != nil && (!headless || port.Name != "") {
		translated = targetPort(servicePort)
	}
	if len(s.Spec.Selector) > 0 {
		side.Members = f.selectedBy(s, translated, destination)
	}
	if len(side.Members) == 0 {
		side.Members = f.listedFor(s, servicePort, translated, destination)
	}
	for i := range side.Members {
		side.Members[i].service = true
	}
	if len(side.Members) == 0 {
		what := "the pods that it selects, or its EndpointSlices, say so"
		if len(s.Spec.Selector) == 0 {
			what = "its EndpointSlices say so"
		}
		return unresolved(side, Unknown{"what is behind Service " + s.Namespace + "/" + s.Name, what}), nil
	}
	return side, nil
}

// unresolved is a side of which nothing is known.
func unresolved(side Side, why Unknown) Side {
	side.Members = []Member{{Name: side.Name, kind: unknownPeer, missing: &why}}
	return side
}

// findServicePort is the port of the Service that is asked about.
func findServicePort(s *corev1.Service, port Port) (*corev1.ServicePort, error) {
	var found []*corev1.ServicePort
	var there []string
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		protocol := protocolOf(p.Protocol)
		if port.Name == "" && port.Protocol == protocol && int32(port.Number) == p.Port || port.Name != "" && port.accepts(protocol, p.Name) {
			found = append(found, p)
		}
		there = append(there, strings.TrimSuffix(fmt.Sprintf("%d/%s %s", p.Port, protocol, p.Name), " "))
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("Service %s/%s has no port %s; it has %s", s.Namespace, s.Name, port, strings.Join(there, ", ")) //nolint:staticcheck // begins with a kind
	}
	return nil, fmt.Errorf("Service %s/%s has several ports %s: give the protocol too, as in %s/%s", s.Namespace, s.Name, port, port.Name, protocolOf(found[0].Protocol)) //nolint:staticcheck // begins with a kind
}

// targetPort is the port of the pods that a Service's port leads to.
func targetPort(p *corev1.ServicePort) Port {
	out := Port{Protocol: protocolOf(p.Protocol), Number: uint16(p.Port)}
	switch {
	case p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "":
		out.Number, out.Name = 0, p.TargetPort.StrVal
	case p.TargetPort.IntVal != 0:
		out.Number = uint16(p.TargetPort.IntVal)
	}
	return out
}

func protocolOf(p corev1.Protocol) policy.Protocol {
	if p == "" {
		return policy.TCP
	}
	return protocols[string(p)]
}

// selectedBy are the pods that the Service selects and that have the port. One that is selected only if
// it has a label that cannot be known may be one.
func (f *Facts) selectedBy(s *corev1.Service, port Port, destination bool) []Member {
	selector := labels.SelectorFromSet(s.Spec.Selector)
	tierRoles := roles.New(f.snapshot.TierRoles)
	var out []Member
	for _, p := range f.snapshot.Pods {
		if p.Namespace != s.Namespace || p.Ended {
			continue
		}
		seen := labels.Set(tierRoles.Of(p.Namespace, p.ServiceAccount, p.Labels).Apply(p.Labels))
		m := f.member(p)
		if !selector.Matches(seen) {
			if m.maybe = f.maySelect(s, p, seen); m.maybe == nil {
				continue
			}
		}
		if destination {
			if m.port = containerPort(p, port); m.port == 0 && port.Protocol.HasPorts() {
				continue
			}
		}
		out = append(out, m)
	}
	return out
}

// maySelect is the label, not known, by which alone the Service does not select the pod.
func (f *Facts) maySelect(s *corev1.Service, p *compile.Pod, seen labels.Set) *Unknown {
	var why *Unknown
	with := maps.Clone(seen)
	for _, l := range f.open[p.Namespace+"/"+p.Name] {
		value, asked := s.Spec.Selector[l.Key]
		if !asked || !l.Accepts(value) || with[l.Key] == value {
			continue
		}
		if with == nil {
			with = labels.Set{}
		}
		with[l.Key] = value
		u := labelUnknown(p.Namespace+"/"+p.Name, l)
		why = &u
	}
	if why == nil || !labels.SelectorFromSet(s.Spec.Selector).Matches(with) {
		return nil
	}
	return why
}

// containerPort is the number of the port at a pod; 0 where the pod has no port of the name.
func containerPort(p *compile.Pod, port Port) uint16 {
	if port.Name == "" {
		return port.Number
	}
	for _, own := range p.Ports {
		if port.accepts(own.Protocol, own.Name) {
			return own.Port
		}
	}
	return 0
}

// listedFor are the endpoints of EndpointSlices, or of Endpoints, of the Service.
func (f *Facts) listedFor(s *corev1.Service, servicePort *corev1.ServicePort, port Port, destination bool) []Member {
	var out []Member
	add := func(address string, target *corev1.ObjectReference, number uint16, ok bool) {
		if a, err := netip.ParseAddr(address); err == nil && (ok || !destination) {
			m := f.endpointAt(a.Unmap(), target)
			m.port = number
			out = append(out, m)
		}
	}
	for _, e := range f.slices {
		if e.Namespace != s.Namespace || e.Labels[discoveryv1.LabelServiceName] != s.Name || e.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		number, ok := slicePort(e.Ports, servicePort, port)
		for _, endpoint := range e.Endpoints {
			for _, a := range endpoint.Addresses {
				add(a, endpoint.TargetRef, number, ok)
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, e := range f.endpoints {
		if e.Namespace != s.Namespace || e.Name != s.Name {
			continue
		}
		for _, subset := range e.Subsets {
			var ports []discoveryv1.EndpointPort
			for _, p := range subset.Ports {
				ports = append(ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol})
			}
			number, ok := slicePort(ports, servicePort, port)
			for _, a := range subset.Addresses {
				add(a.IP, a.TargetRef, number, ok)
			}
		}
	}
	return out
}

// endpointAt is who has the address of an endpoint: a pod if that is what it is said to be.
func (f *Facts) endpointAt(a netip.Addr, target *corev1.ObjectReference) Member {
	m := f.located(a)
	if m.kind != addressMember {
		return m
	}
	if target == nil || target.Kind != "Pod" {
		m.noPod = true
		return m
	}
	for _, p := range f.snapshot.Pods {
		if p.Namespace == target.Namespace && p.Name == target.Name && !p.Ended {
			return f.assumedAt(p, a)
		}
	}
	m.kind = unknownPod
	return m
}

// slicePort is the endpoints' number of the Service's port, which has the same name there.
func slicePort(ports []discoveryv1.EndpointPort, servicePort *corev1.ServicePort, port Port) (uint16, bool) {
	if servicePort == nil {
		return port.Number, port.Number != 0 || !port.Protocol.HasPorts()
	}
	for _, p := range ports {
		name, protocol := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil && *p.Protocol != "" {
			protocol = *p.Protocol
		}
		if name == servicePort.Name && protocolOf(protocol) == protocolOf(servicePort.Protocol) && p.Port != nil {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

// withPort has the number of a port by name at each pod. Pods that have none of the name are left out.
func (f *Facts) withPort(side Side, port Port, destination bool) (Side, error) {
	if !destination || port.Name == "" {
		for i := range side.Members {
			side.Members[i].port = port.Number
		}
		return side, nil
	}
	var kept []Member
	there := map[string]bool{}
	for _, m := range side.Members {
		if m.pod == nil {
			return Side{}, fmt.Errorf("%s gives no port a name: give the number", side.Name)
		}
		if m.port = containerPort(m.pod, port); m.port != 0 {
			kept = append(kept, m)
		}
		for _, p := range m.pod.Ports {
			there[fmt.Sprintf("%s (%d/%s)", p.Name, p.Port, p.Protocol)] = true
		}
	}
	if len(kept) > 0 {
		side.Members = kept
		return side, nil
	}
	if len(there) == 0 {
		return Side{}, fmt.Errorf("%s has no port named %s; it names none", side.Name, port)
	}
	return Side{}, fmt.Errorf("%s has no port named %s; it has %s", side.Name, port, strings.Join(slices.Sorted(maps.Keys(there)), ", "))
}

// protocolAt is the protocol of a port that was asked by name alone.
func (f *Facts) protocolAt(side Side, port Port) (policy.Protocol, error) {
	found := map[policy.Protocol]bool{}
	if s := side.service; s != nil {
		for _, p := range s.Spec.Ports {
			if p.Name == port.Name {
				found[protocolOf(p.Protocol)] = true
			}
		}
	}
	for _, m := range side.Members {
		if m.pod == nil || side.service != nil {
			continue
		}
		for _, p := range m.pod.Ports {
			if p.Name == port.Name {
				found[p.Protocol] = true
			}
		}
	}
	all := slices.Sorted(maps.Keys(found))
	if len(all) > 1 {
		return 0, fmt.Errorf("%s has several ports %s: give the protocol too, as in %[2]s/%[3]s", side.Name, port.Name, all[0])
	}
	if len(all) == 0 {
		return policy.TCP, nil
	}
	return all[0], nil
}
