package simulator

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// rule is a rule of a chain: it matches when all of its matches do.
type rule struct {
	text    string
	matches []match
	// sets are the names of the sets that it refers to.
	sets []string
	// target is a chain or a verdict, or empty where there is but a comment; jump says that RETURN in it comes back here.
	target string
	jump   bool
	// log is what NFLOG does.
	log Log
}

type match func(*Table, countedPacket) bool

var protocols = map[string]policy.Protocol{
	"tcp": policy.TCP, "udp": policy.UDP, "sctp": policy.SCTP,
	"icmp": policy.ICMP, "icmp6": policy.ICMPv6, "ipv6-icmp": policy.ICMPv6,
}

// parser reads the words of one rule.
type parser struct {
	words []string
	rule  rule
	// protocol is that of -p, which matches of ports need.
	protocol policy.Protocol
	// loaded are the matches that -m named.
	loaded map[string]bool
}

func parseRule(words []string) (rule, error) {
	p := &parser{words: words, rule: rule{text: strings.Join(words, " ")}, loaded: map[string]bool{}}
	for len(p.words) > 0 {
		option, err := p.nextWord()
		if err != nil {
			return rule{}, err
		}
		if err := p.parseOption(option); err != nil {
			return rule{}, fmt.Errorf("%s: %w", option, err)
		}
	}
	if p.rule.target == "" && !p.loaded["comment"] {
		return rule{}, fmt.Errorf("no target")
	}
	return p.rule, nil
}

func (p *parser) nextWord() (string, error) {
	if len(p.words) == 0 {
		return "", fmt.Errorf("a word is missing")
	}
	word := p.words[0]
	p.words = p.words[1:]
	return word, nil
}

func (p *parser) parseOption(option string) error {
	value, err := p.nextWord()
	if err != nil {
		return err
	}
	switch option {
	case "-s", "-d":
		return p.parseAddress(option, value)
	case "-p":
		return p.protocolNamed(value)
	case "-i":
		p.addMatch(func(_ *Table, k countedPacket) bool { return k.Interface == value })
	case "-m":
		p.loaded[value] = true
	case "-j", "-g":
		p.rule.target, p.rule.jump = value, option == "-j"
	case "--comment":
		return p.requireModule("comment")
	case "--ctstate":
		return p.parseState(value, true)
	case "--reject-with":
		return p.rejectWith(value)
	case "--limit", "--limit-burst":
		return p.parseLimit(value) // which is as if it were never reached
	case "--nflog-group", "--nflog-prefix":
		return p.parseLog(option, value)
	case "!":
		return p.parseNegated(value)
	case "--icmpv6-type":
		return p.icmpType(value)
	case "--hl-eq":
		return p.hopLimit(value)
	case "--dport", "--dports":
		return p.parsePorts(option, value)
	case "--match-set":
		return p.parseSet(value)
	default:
		return fmt.Errorf("not understood")
	}
	return nil
}

func (p *parser) addMatch(m match) { p.rule.matches = append(p.rule.matches, m) }

func (p *parser) requireModule(name string) error {
	if !p.loaded[name] {
		return fmt.Errorf("needs -m %s", name)
	}
	return nil
}

func (p *parser) parseAddress(option, value string) error {
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		return err
	}
	p.addMatch(func(_ *Table, k countedPacket) bool {
		if option == "-s" {
			return prefix.Contains(k.Source)
		}
		return prefix.Contains(k.Destination)
	})
	return nil
}

func (p *parser) protocolNamed(value string) error {
	protocol, ok := protocols[value]
	if !ok {
		n, err := strconv.ParseUint(value, 10, 8)
		if err != nil || n == 0 {
			return fmt.Errorf("no protocol %s", value)
		}
		protocol = policy.Protocol(n)
	}
	p.protocol = protocol
	p.addMatch(func(_ *Table, k countedPacket) bool { return k.Protocol == protocol })
	return nil
}

// states are conntrack's; RELATED is not told from ESTABLISHED.
var states = map[string]func(countedPacket) bool{
	"INVALID":     func(k countedPacket) bool { return k.Invalid },
	"NEW":         func(k countedPacket) bool { return !k.Established && !k.Invalid && !k.Untracked },
	"RELATED":     func(k countedPacket) bool { return k.Established },
	"ESTABLISHED": func(k countedPacket) bool { return k.Established },
	"UNTRACKED":   func(k countedPacket) bool { return k.Untracked },
}

func (p *parser) parseState(value string, want bool) error {
	var any []func(countedPacket) bool
	for _, name := range strings.Split(value, ",") {
		if states[name] == nil {
			return fmt.Errorf("no state %s", name)
		}
		any = append(any, states[name])
	}
	p.addMatch(func(_ *Table, k countedPacket) bool {
		return want == slices.ContainsFunc(any, func(is func(countedPacket) bool) bool { return is(k) })
	})
	return p.requireModule("conntrack")
}

// parseNegated reads the negations that there are: of states, of sources that are the node's, and of the packets that open a connection.
func (p *parser) parseNegated(option string) error {
	switch option {
	case "--ctstate":
		value, err := p.nextWord()
		if err != nil {
			return err
		}
		return p.parseState(value, false)
	case "--src-type":
		if value, err := p.nextWord(); err != nil || value != "LOCAL" {
			return fmt.Errorf("%s %s: not understood", option, value)
		}
		p.addMatch(func(_ *Table, k countedPacket) bool { return k.Foreign })
		return p.requireModule("addrtype")
	}
	var words [2]string
	for i := range words {
		var err error
		if words[i], err = p.nextWord(); err != nil {
			return err
		}
	}
	protocol, opening := policy.TCP, [2]string{"FIN,SYN,RST,ACK", "SYN"}
	if option == "--chunk-types" {
		protocol, opening = policy.SCTP, [2]string{"any", "INIT"}
	} else if option != "--tcp-flags" {
		return fmt.Errorf("%s: not understood", option)
	}
	if p.protocol != protocol || words != opening {
		return fmt.Errorf("%s %v: not understood", option, words)
	}
	p.addMatch(func(_ *Table, k countedPacket) bool { return k.Midway })
	return p.requireModule(strings.ToLower(protocol.String()))
}

func (p *parser) parseLimit(value string) error {
	number, unit, _ := strings.Cut(value, "/")
	if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 || unit != "" && unit != "sec" {
		return fmt.Errorf("%s: not understood", value)
	}
	return p.requireModule("limit")
}

// parseLog reads the options of NFLOG.
func (p *parser) parseLog(option, value string) error {
	if p.rule.target != "NFLOG" || len(value) > 63 {
		return fmt.Errorf("%s: not understood", value)
	}
	if option == "--nflog-prefix" {
		p.rule.log.Prefix = value
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 16)
	p.rule.log.Group = uint16(n)
	return err
}

// rejectWith is a target's option: a reset, which only TCP has.
func (p *parser) rejectWith(value string) error {
	if p.rule.target != "REJECT" || value != "tcp-reset" || p.protocol != policy.TCP {
		return fmt.Errorf("%s: not understood", value)
	}
	return nil
}

func (p *parser) icmpType(value string) error {
	kind, code, both := strings.Cut(value, "/")
	n, err := strconv.ParseUint(kind, 10, 8)
	if err != nil {
		return err
	}
	var c uint64
	if both {
		if c, err = strconv.ParseUint(code, 10, 8); err != nil {
			return err
		}
	}
	if p.protocol != policy.ICMPv6 {
		return fmt.Errorf("needs -p ipv6-icmp")
	}
	p.addMatch(func(_ *Table, k countedPacket) bool {
		return k.ICMPType == uint8(n) && (!both || k.ICMPCode == uint8(c))
	})
	return p.requireModule("icmp6")
}

func (p *parser) hopLimit(value string) error {
	n, err := strconv.ParseUint(value, 10, 8)
	if err != nil {
		return err
	}
	p.addMatch(func(_ *Table, k countedPacket) bool { return k.Source.Is6() && k.HopLimit == uint8(n) })
	return p.requireModule("hl")
}

// parsePorts reads one port or range of -m tcp, udp or sctp, or a list of -m multiport.
func (p *parser) parsePorts(option, value string) error {
	if !p.protocol.HasPorts() {
		return fmt.Errorf("needs -p tcp, udp or sctp")
	}
	module := strings.ToLower(p.protocol.String())
	list := []string{value}
	if option == "--dports" {
		module, list = "multiport", strings.Split(value, ",")
	}
	var ranges [][2]uint16
	slots := 0
	for _, text := range list {
		r, err := portRange(text)
		if err != nil {
			return err
		}
		ranges, slots = append(ranges, r), slots+1+strings.Count(text, ":")
	}
	if slots > 15 {
		return fmt.Errorf("multiport has room for 15 ports, not %d", slots)
	}
	p.addMatch(func(_ *Table, k countedPacket) bool {
		for _, r := range ranges {
			if r[0] <= k.DestinationPort && k.DestinationPort <= r[1] {
				return true
			}
		}
		return false
	})
	return p.requireModule(module)
}

func portRange(text string) (r [2]uint16, err error) {
	from, to, isRange := strings.Cut(text, ":")
	if !isRange {
		to = from
	}
	for i, s := range []string{from, to} {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return r, err
		}
		r[i] = uint16(n)
	}
	if r[0] > r[1] {
		return r, fmt.Errorf("range %s runs backwards", text)
	}
	return r, nil
}

func (p *parser) parseSet(name string) error {
	sides, err := p.nextWord()
	if err != nil {
		return err
	}
	dimensions := strings.Split(sides, ",")
	for _, d := range dimensions {
		if d != "src" && d != "dst" {
			return fmt.Errorf("no side %s", d)
		}
	}
	p.rule.sets = append(p.rule.sets, name)
	p.addMatch(func(t *Table, k countedPacket) bool { return t.inSet(name, k, dimensions) })
	return p.requireModule("set")
}
