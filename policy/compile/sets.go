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

// definition is what a set's identity and members follow from.
type definition struct {
	id       policy.SetID
	kind     policy.SetKind
	means    string
	elements func(*cluster) []policy.Element
}

// set is the set with its members of the moment.
func (d *definition) set(c *cluster) *policy.Set {
	elements := d.elements(c)
	slices.SortFunc(elements, policy.Element.Compare)
	return &policy.Set{ID: d.id, Kind: d.kind, Means: d.means, Elements: slices.Compact(elements)}
}

// setID is the letter of the kind and 80 bits of a hash of what defines the set.
func setID(kind byte, canonical string) policy.SetID {
	sum := sha256.Sum256([]byte(canonical))
	return policy.SetID(string(kind) + hex.EncodeToString(sum[:10]))
}

// podSet is the addresses of the pods that one selector matches, in the
// namespaces that the other matches.
func podSet(namespaces, pods selector) *definition {
	return &definition{
		id:    setID('p', namespaces.text+"|"+pods.text),
		kind:  policy.Addresses,
		means: selected("pods", pods) + " in " + inNamespaces(namespaces),
		elements: func(c *cluster) []policy.Element {
			var out []policy.Element
			for _, p := range c.members(namespaces, pods) {
				for _, a := range p.addrs {
					out = append(out, policy.AddressElement(a))
				}
			}
			return out
		},
	}
}

// nodeSet is the addresses of the nodes that the selector matches.
func nodeSet(nodes selector) *definition {
	return &definition{
		id:    setID('n', nodes.text),
		kind:  policy.Addresses,
		means: selected("nodes", nodes),
		elements: func(c *cluster) []policy.Element {
			var out []policy.Element
			for _, n := range c.nodes {
				if !nodes.matches(n.Labels) {
					continue
				}
				for _, a := range addresses(n.Addrs) {
					out = append(out, policy.AddressElement(a))
				}
			}
			return out
		},
	}
}

// networkSet is a list of disjoint prefixes.
func networkSet(prefixes []netip.Prefix) *definition {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return &definition{
		id:    setID('c', strings.Join(texts, ",")),
		kind:  policy.Networks,
		means: "networks " + abridged(texts),
		elements: func(*cluster) []policy.Element {
			out := make([]policy.Element, len(prefixes))
			for i, p := range prefixes {
				out[i] = policy.Element{Prefix: p}
			}
			return out
		},
	}
}

// namedPortSet is the pods' container ports of the name and the protocol, with
// the pods' addresses.
func namedPortSet(name string, protocol policy.Protocol) *definition {
	return &definition{
		id:       setID('a', name+"|"+protocol.String()),
		kind:     policy.AddressPorts,
		means:    fmt.Sprintf("container ports named %s of %s", name, protocol),
		elements: func(c *cluster) []policy.Element { return c.namedPorts(name, protocol) },
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

func abridged(texts []string) string {
	const shown = 4
	if len(texts) <= shown {
		return strings.Join(texts, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(texts[:shown], ", "), len(texts)-shown)
}
