package iptables

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/policy"
)

// maxMultiport is the number of ports of one multiport match; a range counts twice.
const maxMultiport = 15

// portMatch is the match of a protocol and that of ports: a rule prints as the kernel's
// tools print it.
type portMatch struct{ protocol, ports string }

// portMatches are the matches of a rule's ports.
func (b *classBuilder) portMatches(rule policy.Rule) ([]portMatch, error) {
	if rule.AnyPort {
		return []portMatch{{}}, nil
	}
	var out []portMatch
	ranges := map[policy.Protocol][]policy.Port{}
	var order []policy.Protocol
	for _, p := range rule.Ports {
		if p.Named == "" {
			if ranges[p.Protocol] == nil {
				order = append(order, p.Protocol)
			}
			ranges[p.Protocol] = append(ranges[p.Protocol], p)
			continue
		}
		name, err := b.sharedSet(p.Named)
		if err != nil {
			return nil, err
		}
		out = append(out, portMatch{ports: inSet(name, "dst,dst")})
	}
	for _, protocol := range order {
		out = append(out, portRanges(protocol, ranges[protocol])...)
	}
	return out, nil
}

// portSpans are the ports of a rule that do not go by name, but for those of protocol 0, which to
// iptables and ipset would mean all of them.
func portSpans(ports []policy.Port) []rulegroup.Span {
	return slices.DeleteFunc(rulegroup.SpansOf(ports), func(s rulegroup.Span) bool { return s.Protocol == 0 })
}

// spanMatches are the matches of ports.
func spanMatches(in []rulegroup.Span) []portMatch {
	var out []portMatch
	for i := 0; i < len(in); {
		var ports []policy.Port
		protocol := in[i].Protocol
		for ; i < len(in) && in[i].Protocol == protocol; i++ {
			ports = append(ports, in[i].AsPort())
		}
		out = append(out, portRanges(protocol, ports)...)
	}
	return out
}

// portRanges are the matches of ports of one protocol. A protocol without ports
// has port 0 in a flow. Protocol 0 is none: to iptables it would mean all of them.
func portRanges(protocol policy.Protocol, ports []policy.Port) []portMatch {
	if protocol == 0 {
		return nil
	}
	name := "-p " + protocolText(protocol) + " "
	for _, p := range ports {
		if p.All() || !protocol.HasPorts() && p.First == 0 {
			return []portMatch{{protocol: name}}
		}
	}
	if !protocol.HasPorts() {
		return nil
	}
	if len(ports) == 1 {
		return []portMatch{{name, "-m " + protocolText(protocol) + " --dport " + rangeText(ports[0]) + " "}}
	}
	var out []portMatch
	for _, list := range multiportChunks(ports) {
		out = append(out, portMatch{name, "-m multiport --dports " + strings.Join(list, ",") + " "})
	}
	return out
}

// multiportChunks are the ports as lists that each fit in one multiport match.
func multiportChunks(ports []policy.Port) [][]string {
	var out [][]string
	room := 0
	for _, p := range ports {
		size := 2
		if p.First == p.Last {
			size = 1
		}
		if size > room {
			out, room = append(out, nil), maxMultiport
		}
		room -= size
		out[len(out)-1] = append(out[len(out)-1], rangeText(p))
	}
	return out
}

func rangeText(p policy.Port) string {
	first := strconv.Itoa(int(p.First))
	if p.First == p.Last {
		return first
	}
	return first + ":" + strconv.Itoa(int(p.Last))
}

// protocolText is the protocol's name in iptables and ipset, or its number.
func protocolText(p policy.Protocol) string {
	switch p {
	case policy.TCP:
		return "tcp"
	case policy.UDP:
		return "udp"
	case policy.SCTP:
		return "sctp"
	case policy.ICMP:
		return "icmp"
	default:
		return strconv.Itoa(int(p))
	}
}
