package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/internal/contenthash"
	"github.com/tierwall/tierwall/policy"
)

// definition is what a set's identity and members follow from: pods, nodes, networks or a port.
type definition struct {
	hash     policy.SetID
	pods     *podSelection
	nodes    *selector
	networks []policy.Element
	port     portName
}

// podSelection is the pods that one selector matches, in the namespaces that the other matches.
type podSelection struct {
	namespaces, pods selector
	// foreign is true where Foreign addresses of the pods count, too.
	foreign bool
}

type portName struct {
	name     string
	protocol policy.Protocol
	// foreign is true where Foreign addresses of the pods count, too.
	foreign bool
}

// inventory is who there is to be in a set.
type inventory interface {
	// podAddrs are the addresses of the pods.
	podAddrs(*podSelection) []netip.Addr
	// nodeAddrs are the addresses of the nodes.
	nodeAddrs(selector) []netip.Addr
	// namedPorts are the pods' container ports of the name and the protocol.
	namedPorts(portName) []policy.Element
}

// same reports whether both define the same set.
func (d *definition) same(o *definition) bool {
	switch {
	case d.hash != o.hash || d.kind() != o.kind() || (d.pods == nil) != (o.pods == nil) || (d.nodes == nil) != (o.nodes == nil):
		return false
	case d.pods != nil:
		return d.pods.foreign == o.pods.foreign && d.pods.namespaces.text == o.pods.namespaces.text && d.pods.pods.text == o.pods.pods.text
	case d.nodes != nil:
		return d.nodes.text == o.nodes.text
	default:
		return d.port == o.port && slices.Equal(d.networks, o.networks)
	}
}

// set is the set under an ID with its members of the moment.
func (d *definition) set(id policy.SetID, in inventory) *policy.Set {
	elements := d.elements(in)
	slices.SortFunc(elements, policy.Element.Compare)
	return &policy.Set{ID: id, Kind: d.kind(), Description: d.means(), Elements: slices.Compact(elements)}
}

func (d *definition) elements(in inventory) []policy.Element {
	switch {
	case d.pods != nil:
		return addressElements(in.podAddrs(d.pods))
	case d.nodes != nil:
		return addressElements(in.nodeAddrs(*d.nodes))
	case d.port.name != "":
		return in.namedPorts(d.port)
	}
	return slices.Clone(d.networks)
}

func addressElements(addrs []netip.Addr) []policy.Element {
	out := make([]policy.Element, len(addrs))
	for i, a := range addrs {
		out[i] = policy.AddressElement(a)
	}
	return out
}

// size is the number of entries that define the set.
func (d *definition) size() int {
	switch {
	case d.pods != nil:
		return d.pods.namespaces.size() + d.pods.pods.size()
	case d.nodes != nil:
		return d.nodes.size()
	default:
		return len(d.networks)
	}
}

func (d *definition) kind() policy.SetKind {
	switch {
	case d.pods != nil, d.nodes != nil:
		return policy.Addresses
	case d.port.name != "":
		return policy.AddressPorts
	default:
		return policy.Networks
	}
}

func (d *definition) means() string {
	switch {
	case d.pods != nil:
		return selected("pods", d.pods.pods) + " in " + inNamespaces(d.pods.namespaces)
	case d.nodes != nil:
		return selected("nodes", *d.nodes)
	case d.port.name != "":
		return fmt.Sprintf("container ports named %s of %s", d.port.name, d.port.protocol)
	default:
		return "networks " + abridged(d.networks)
	}
}

// setHash is the letter of the kind and the hash of what defines the set.
func setHash(kind byte, canonical string) policy.SetID {
	return policy.SetID(string(kind) + contenthash.Sum([]byte(canonical)))
}

// podSet is the addresses of the pods that one selector matches, in the
// namespaces that the other matches.
func podSet(namespaces, pods selector) *definition {
	return &definition{hash: setHash('p', namespaces.text+"|"+pods.text), pods: &podSelection{namespaces: namespaces, pods: pods}}
}

// nodeSet is the addresses of the nodes that the selector matches.
func nodeSet(nodes selector) *definition {
	return &definition{hash: setHash('n', nodes.text), nodes: &nodes}
}

// networkSet is networks with their exceptions, sorted.
func networkSet(networks []policy.Element) *definition {
	return &definition{hash: setHash('c', strings.Join(texts(networks), ",")), networks: networks}
}

// namedPortSet is the pods' container ports of the name and the protocol, with
// the pods' addresses.
func namedPortSet(name string, protocol policy.Protocol) *definition {
	return &definition{hash: setHash('a', name+"|"+protocol.String()), port: portName{name: name, protocol: protocol}}
}

// withForeign is the set as rules that deny refer to it: with the Foreign addresses of its pods, if it is of pods.
func (d *definition) withForeign() *definition {
	switch out := *d; {
	case d.pods != nil:
		pods := *d.pods
		pods.foreign = true
		out.pods, out.hash = &pods, "q"+d.hash[1:]
		return &out
	case d.port.name != "":
		out.port.foreign, out.hash = true, "b"+d.hash[1:]
		return &out
	default:
		return d
	}
}

func selected(what string, s selector) string {
	if s.everything() {
		return "all " + what
	}
	return what + " " + s.text
}

func inNamespaces(s selector) string {
	if name, ok := s.name(); ok && len(s.requirements) == 1 {
		return "namespace " + name
	}
	return selected("namespaces", s)
}

func texts(networks []policy.Element) []string {
	out := make([]string, len(networks))
	for i, e := range networks {
		out[i] = e.String()
	}
	return out
}

func abridged(networks []policy.Element) string {
	const shown = 4
	if len(networks) <= shown {
		return strings.Join(texts(networks), ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(texts(networks[:shown]), ", "), len(networks)-shown)
}
