package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// definition is what a set's identity and members follow from: pods, nodes, networks or a port.
type definition struct {
	id       policy.SetID
	pods     *podSelection
	nodes    *selector
	networks []policy.Element
	port     portName
}

// podSelection is the pods that one selector matches, in the namespaces that the other matches.
type podSelection struct{ namespaces, pods selector }

type portName struct {
	name     string
	protocol policy.Protocol
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

// set is the set with its members of the moment.
func (d *definition) set(in inventory) *policy.Set {
	elements := d.elements(in)
	slices.SortFunc(elements, policy.Element.Compare)
	return &policy.Set{ID: d.id, Kind: d.kind(), Means: d.means(), Elements: slices.Compact(elements)}
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

// setID is the letter of the kind and the SHA-256 of what defines the set.
func setID(kind byte, canonical string) policy.SetID {
	sum := sha256.Sum256([]byte(canonical))
	return policy.SetID(string(kind) + hex.EncodeToString(sum[:]))
}

// podSet is the addresses of the pods that one selector matches, in the
// namespaces that the other matches.
func podSet(namespaces, pods selector) *definition {
	return &definition{id: setID('p', namespaces.text+"|"+pods.text), pods: &podSelection{namespaces, pods}}
}

// nodeSet is the addresses of the nodes that the selector matches.
func nodeSet(nodes selector) *definition {
	return &definition{id: setID('n', nodes.text), nodes: &nodes}
}

// networkSet is networks with their exceptions, sorted.
func networkSet(networks []policy.Element) *definition {
	return &definition{id: setID('c', strings.Join(texts(networks), ",")), networks: networks}
}

// namedPortSet is the pods' container ports of the name and the protocol, with
// the pods' addresses.
func namedPortSet(name string, protocol policy.Protocol) *definition {
	return &definition{id: setID('a', name+"|"+protocol.String()), port: portName{name, protocol}}
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
