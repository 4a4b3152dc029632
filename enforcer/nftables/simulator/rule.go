package simulator

import (
	"fmt"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// rule is a rule of a chain.
type rule struct {
	text    string
	matches []match
	// vmap is the key to look up in the map that is the only one of sets, where the rule has no verdict.
	vmap    []string
	verdict *verdict
	sets    []string
	// log is what a rule does that logs, at a limited rate, and goes on.
	log Log
}

// match reports whether a rule goes on for a packet.
type match func(l *lookups, p Packet) bool

// verdict is what a rule or an element says.
type verdict struct{ action, target string }

func parseVerdict(words []string) (*verdict, error) {
	switch {
	case len(words) == 1 && (words[0] == "accept" || words[0] == "drop" || words[0] == "return"):
		return &verdict{action: words[0]}, nil
	case len(words) == 2 && (words[0] == "jump" || words[0] == "goto"):
		return &verdict{words[0], words[1]}, nil
	}
	return nil, fmt.Errorf("no verdict: %q", words)
}

// fields are what of a packet can be looked at, as many words as they have. A field that the
// packet does not have matches nothing.
var fields = map[string]struct {
	kind string
	get  func(Packet) (value, bool)
}{
	"ip saddr":     {"ipv4_addr", func(p Packet) (value, bool) { return value{addr: p.Source}, p.Source.Is4() }},
	"ip daddr":     {"ipv4_addr", func(p Packet) (value, bool) { return value{addr: p.Destination}, p.Source.Is4() }},
	"ip6 saddr":    {"ipv6_addr", func(p Packet) (value, bool) { return value{addr: p.Source}, p.Source.Is6() }},
	"ip6 daddr":    {"ipv6_addr", func(p Packet) (value, bool) { return value{addr: p.Destination}, p.Source.Is6() }},
	"meta l4proto": {"inet_proto", func(p Packet) (value, bool) { return value{number: int(p.Protocol)}, true }},
	// Whatever is in the place where ports would be.
	"th dport": {"inet_service", func(p Packet) (value, bool) {
		if p.Protocol.HasPorts() {
			return value{number: int(p.DestinationPort)}, true
		}
		return value{number: int(p.Payload)}, true
	}},
}

type ruleParser struct {
	words []string
	rule  rule
}

func parseRule(text string) (rule, error) {
	body, note, commented := strings.Cut(text, ` comment "`)
	if commented && strings.Index(note, `"`) != len(note)-1 {
		return rule{}, fmt.Errorf("a comment that does not end with the rule")
	}
	p := &ruleParser{words: strings.Fields(body), rule: rule{text: text}}
	for len(p.words) > 0 {
		done, err := p.parseStatement()
		if err != nil {
			return rule{}, err
		}
		if done && len(p.words) > 0 {
			return rule{}, fmt.Errorf("words after the verdict: %q", p.words)
		}
	}
	if p.rule.verdict == nil && p.rule.vmap == nil {
		return rule{}, fmt.Errorf("no verdict")
	}
	return p.rule, nil
}

// takeText takes words if they come next.
func (p *ruleParser) takeText(text string) bool {
	want := strings.Fields(text)
	if len(p.words) < len(want) || strings.Join(p.words[:len(want)], " ") != text {
		return false
	}
	p.words = p.words[len(want):]
	return true
}

func (p *ruleParser) nextWord() string {
	if len(p.words) == 0 {
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

// parseStatement reads one match or the verdict, and reports whether it was the verdict.
func (p *ruleParser) parseStatement() (bool, error) {
	switch {
	case p.takeText("ct state established,related"):
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Established })
		return false, nil
	case p.takeText("ct state invalid,new"):
		p.addMatch(func(_ *lookups, k Packet) bool { return !k.Established && !k.Untracked })
		return false, nil
	case p.takeText("ct state new"):
		p.addMatch(func(_ *lookups, k Packet) bool { return !k.Established && !k.Untracked && !k.Invalid })
		return false, nil
	case p.takeText("tcp flags & (fin | syn | rst | ack) != syn"):
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Protocol == policy.TCP && k.Midway })
		return false, nil
	case p.takeText("meta l4proto sctp"):
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Protocol == policy.SCTP })
		return false, nil
	case p.takeText("sctp chunk init missing"): // as it is from everything that is no SCTP
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Protocol != policy.SCTP || k.Midway })
		return false, nil
	case p.takeText("meta l4proto tcp"):
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Protocol == policy.TCP })
		return false, nil
	case p.takeText("reject with tcp reset"):
		p.rule.verdict = &verdict{action: "reject"}
		return true, nil
	case p.takeText(`iifname "lo"`):
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Interface == "lo" })
		return false, nil
	case p.takeText("fib saddr type != local"):
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Foreign })
		return false, nil
	case p.takeText("meta nfproto ipv4"):
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Source.Is4() })
		return false, nil
	case p.takeText("meta nfproto ipv6"):
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Source.Is6() })
		return false, nil
	case p.takeText("limit rate"):
		return true, p.parseLog()
	case p.takeText("icmpv6 type"):
		return false, p.parseICMP(p.nextWord())
	case p.takeText("icmpv6 code 0"):
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Protocol == policy.ICMPv6 && k.ICMPCode == 0 })
		return false, nil
	case p.takeText("ip6 hoplimit 255"):
		p.addMatch(func(_ *lookups, k Packet) bool { return k.Source.Is6() && k.HopLimit == policy.OnLink })
		return false, nil
	}
	if names := p.parseKey(); len(names) > 0 {
		return p.parseComparison(names)
	}
	v, err := parseVerdict(p.words)
	p.rule.verdict, p.words = v, nil
	return true, err
}

func (p *ruleParser) addMatch(m match) { p.rule.matches = append(p.rule.matches, m) }

// parseLog reads the rest of a rule that logs.
func (p *ruleParser) parseLog() error {
	var rate, burst int
	n, err := fmt.Sscanf(strings.Join(p.words, " "), "%d/second burst %d packets log prefix %q group %d", &rate, &burst, &p.rule.log.Prefix, &p.rule.log.Group)
	if n != 4 {
		return fmt.Errorf("not a limited log: %w", err)
	}
	p.rule.verdict, p.words = &verdict{action: "log"}, nil
	return nil
}

func (p *ruleParser) parseICMP(text string) error {
	var first, last uint8
	if n, err := fmt.Sscanf(text, "%d-%d", &first, &last); n != 2 {
		return err
	}
	p.addMatch(func(_ *lookups, k Packet) bool {
		return k.Protocol == policy.ICMPv6 && first <= k.ICMPType && k.ICMPType <= last
	})
	return nil
}

// parseKey reads a concatenation of fields.
func (p *ruleParser) parseKey() []string {
	var out []string
	for {
		found := ""
		for name := range fields {
			if p.takeText(name) {
				found = name
				break
			}
		}
		if found == "" {
			return out
		}
		out = append(out, found)
		if !p.takeText(".") {
			return out
		}
	}
}

// parseComparison reads what a key is compared with: a set, a map of verdicts, values in braces or one value.
func (p *ruleParser) parseComparison(names []string) (bool, error) {
	word := p.nextWord()
	switch {
	case word == "vmap":
		p.rule.vmap, p.rule.sets = names, append(p.rule.sets, strings.TrimPrefix(p.nextWord(), "@"))
		return true, nil
	case strings.HasPrefix(word, "@"):
		name := word[1:]
		p.rule.sets = append(p.rule.sets, name)
		p.addMatch(func(l *lookups, k Packet) bool {
			_, found := l.findVerdict(name, names, k)
			return found
		})
		return false, nil
	case word != "{":
		return false, p.parseValues(names, []string{word})
	}
	end := strings.Join(p.words, " ")
	inside, rest, ok := strings.Cut(end, " }")
	if !ok {
		return false, fmt.Errorf("open braces")
	}
	p.words = strings.Fields(rest)
	return false, p.parseValues(names, strings.Split(inside, ", "))
}

func (p *ruleParser) parseValues(names, texts []string) error {
	s := &set{interval: len(texts) == 1, ranges: map[string][]bounds{}, verdicts: map[string]*verdict{}}
	for _, name := range names {
		s.types = append(s.types, fields[name].kind)
	}
	for _, text := range texts {
		if err := s.changeElement("add", text, nil); err != nil {
			return fmt.Errorf("value %q: %w", text, err)
		}
	}
	p.addMatch(func(_ *lookups, k Packet) bool {
		values, ok := readFields(names, k)
		if !ok {
			return false
		}
		_, found := s.findVerdict(values)
		return found
	})
	return nil
}

func readFields(names []string, k Packet) ([]value, bool) {
	out := make([]value, len(names))
	for i, name := range names {
		v, ok := fields[name].get(k)
		if !ok {
			return nil, false
		}
		out[i] = v
	}
	return out, true
}
