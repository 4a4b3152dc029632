package policy

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// String is the program as canonical text, for golden files and diffs: equal
// programs have equal text, and different programs have different text.
func (p *Program) String() string {
	var b strings.Builder
	_ = p.Dump(&b) // a Builder's writes do not fail
	return b.String()
}

// Dump writes the program as String gives it.
func (p *Program) Dump(out io.Writer) error {
	w := bufio.NewWriter(out)
	for _, h := range p.Hosts {
		fmt.Fprintf(w, "host %s addrs=%s pods=%s\n", h.Name, list(h.Addrs), list(h.PodCIDRs))
	}
	fmt.Fprintf(w, "local %s unknown=%s\n", list(p.Local), p.Unknown)
	for _, e := range p.Endpoints {
		fmt.Fprintf(w, "endpoint %s node=%s addrs=%s", e.Key(), e.Node, list(e.Addrs))
		for _, d := range Directions {
			fmt.Fprintf(w, " %s=%s", d, e.Class[d])
		}
		fmt.Fprintln(w)
	}
	for _, d := range Directions {
		for _, id := range slices.Sorted(maps.Keys(p.Classes[d])) {
			fmt.Fprintf(w, "class %s %s\n", d, id)
			p.Classes[d][id].dump(w)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.Sets)) {
		p.Sets[id].dump(w)
	}
	return w.Flush()
}

// String is the class as canonical text, one line a rule.
func (c *Class) String() string {
	var b strings.Builder
	c.dump(&b)
	return b.String()
}

func (c *Class) dump(w io.Writer) {
	for _, t := range c.Tiers {
		fmt.Fprintf(w, "  tier %s\n", t.Name)
		for _, r := range t.Rules {
			fmt.Fprintf(w, "    %s\n", r)
		}
		fmt.Fprintf(w, "    else %s", t.Else)
		if t.ElseID != (RuleID{}) {
			fmt.Fprintf(w, " # %s", t.ElseID)
		}
		fmt.Fprintln(w)
	}
}

// String is the rule on one line.
func (r Rule) String() string {
	peers, ports := "any", "any"
	if !r.AnyPeer {
		peers = list(r.Peers)
	}
	if !r.AnyPort {
		ports = list(r.Ports)
	}
	return fmt.Sprintf("%s peers=%s ports=%s # %s", r.Verdict, peers, ports, r.ID)
}

func (s *Set) dump(w io.Writer) {
	fmt.Fprintf(w, "set %s %s # %s\n", s.ID, s.Kind, s.Description)
	for _, e := range s.Elements {
		fmt.Fprintf(w, "  %s\n", e)
	}
}

func (k SetKind) String() string {
	switch k {
	case Networks:
		return "networks"
	case AddressPorts:
		return "address-ports"
	default:
		return "addresses"
	}
}

// String is an address, a network, an exception as "not 10.0.0.0/8", or an address with a protocol and a port.
func (e Element) String() string {
	text := e.Prefix.String()
	if e.Prefix.IsSingleIP() {
		text = e.Prefix.Addr().String()
	}
	if e.Protocol != 0 {
		text += fmt.Sprintf(" %s/%d", e.Protocol, e.Port)
	}
	if e.Except {
		text = "not " + text
	}
	return text
}

// list is the values in brackets, so that none at all can be told from any.
func list[T any](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return "[" + strings.Join(texts, " ") + "]"
}
