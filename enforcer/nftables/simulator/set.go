package simulator

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// set is a set or a map of verdicts.
type set struct {
	// kind is the whole definition.
	kind            string
	isMap, interval bool
	types           []string
	// verdicts are by key; those of a set are nil.
	verdicts map[string]*verdict
	// ranges are the elements of an interval set.
	ranges map[string][]bounds
}

// bounds are a range of one field of a key.
type bounds struct{ first, last value }

func (s *set) clone() *set {
	out := *s
	out.verdicts, out.ranges = maps.Clone(s.verdicts), maps.Clone(s.ranges)
	return &out
}

func newSet(kind, definition string) (*set, error) {
	body, ok := strings.CutPrefix(definition, "{ type ")
	if !ok {
		return nil, fmt.Errorf("no type")
	}
	types, flags, ok := strings.Cut(body, " ;")
	if !ok || flags != " }" && flags != " flags interval ; }" {
		return nil, fmt.Errorf("not understood")
	}
	s := &set{kind: kind + " " + definition, isMap: kind == "map", interval: flags != " }", verdicts: map[string]*verdict{}, ranges: map[string][]bounds{}}
	if s.isMap {
		if types, ok = strings.CutSuffix(types, " : verdict"); !ok {
			return nil, fmt.Errorf("not a map of verdicts")
		}
	}
	s.types = strings.Split(types, " . ")
	for _, name := range s.types {
		if !slices.Contains([]string{"ipv4_addr", "ipv6_addr", "inet_proto", "inet_service"}, name) {
			return nil, fmt.Errorf("no type %s", name)
		}
	}
	return s, nil
}

// splitElement reads "{ key comment "x" : verdict }".
func splitElement(text string) (string, *verdict, error) {
	text, ok := strings.CutPrefix(text, "{ ")
	text, ok2 := strings.CutSuffix(text, " }")
	if !ok || !ok2 {
		return "", nil, fmt.Errorf("not understood")
	}
	k, rest := text, ""
	if i := strings.Index(text, ` comment "`); i >= 0 {
		end := strings.Index(text[i+10:], `"`)
		if end < 0 {
			return "", nil, fmt.Errorf("an open comment")
		}
		k, rest = text[:i], text[i+10+end+1:]
	} else if i := strings.Index(text, " : "); i >= 0 {
		k, rest = text[:i], text[i:]
	}
	if rest == "" {
		return k, nil, nil
	}
	v, ok := strings.CutPrefix(rest, " : ")
	if !ok {
		return "", nil, fmt.Errorf("not understood: %q", rest)
	}
	out, err := parseVerdict(strings.Fields(v))
	return k, out, err
}

func (s *set) changeElement(verb, k string, v *verdict) error {
	fields, err := s.parseKey(k)
	if err != nil {
		return err
	}
	_, there := s.verdicts[k]
	switch {
	case verb == "delete" && !there:
		return fmt.Errorf("no such element")
	case verb == "delete":
		delete(s.verdicts, k)
		delete(s.ranges, k)
		return nil
	case verb != "add" || s.isMap != (v != nil):
		return fmt.Errorf("not understood")
	case there && v != nil && *s.verdicts[k] != *v:
		return fmt.Errorf("the key has another verdict")
	}
	if s.interval {
		for other, b := range s.ranges {
			if other != k && doOverlap(b, fields) {
				return fmt.Errorf("overlaps %s", other)
			}
		}
	}
	s.verdicts[k], s.ranges[k] = v, fields
	return nil
}

func doOverlap(a, b []bounds) bool {
	for i := range a {
		if a[i].last.isLess(b[i].first) || b[i].last.isLess(a[i].first) {
			return false
		}
	}
	return true
}

func (s *set) parseKey(k string) ([]bounds, error) {
	texts := strings.Split(k, " . ")
	if len(texts) != len(s.types) {
		return nil, fmt.Errorf("a key of %d fields for %v", len(texts), s.types)
	}
	out := make([]bounds, len(texts))
	for i, text := range texts {
		b, err := parseBounds(s.types[i], text)
		if err != nil {
			return nil, err
		}
		if !s.interval && b.first != b.last {
			return nil, fmt.Errorf("a range in a set without")
		}
		out[i] = b
	}
	return out, nil
}

// value is a field of a key: an address or a number.
type value struct {
	addr   netip.Addr
	number int
}

func (v value) isLess(o value) bool {
	if v.addr.IsValid() {
		return v.addr.Less(o.addr)
	}
	return v.number < o.number
}

func (b bounds) contains(v value) bool { return !v.isLess(b.first) && !b.last.isLess(v) }

func parseBounds(kind, text string) (bounds, error) {
	if p, err := netip.ParsePrefix(text); err == nil && strings.HasSuffix(kind, "_addr") {
		if p.Addr().Is4() != (kind == "ipv4_addr") || p != p.Masked() {
			return bounds{}, fmt.Errorf("no %s: %s", kind, text)
		}
		last := p.Addr()
		b := last.AsSlice()
		for i := p.Bits(); i < len(b)*8; i++ {
			b[i/8] |= 1 << (7 - i%8)
		}
		last, _ = netip.AddrFromSlice(b)
		return bounds{value{addr: p.Addr()}, value{addr: last}}, nil
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	a, err := parseValue(kind, first)
	if err != nil {
		return bounds{}, err
	}
	b, err := parseValue(kind, last)
	if err == nil && b.isLess(a) {
		err = fmt.Errorf("range %s runs backwards", text)
	}
	return bounds{a, b}, err
}

func parseValue(kind, text string) (value, error) {
	switch kind {
	case "ipv4_addr", "ipv6_addr":
		a, err := netip.ParseAddr(text)
		if err == nil && a.Is4() != (kind == "ipv4_addr") {
			err = fmt.Errorf("no %s: %s", kind, text)
		}
		return value{addr: a}, err
	case "inet_proto":
		n, err := strconv.ParseUint(text, 10, 8)
		return value{number: int(n)}, err
	default:
		n, err := strconv.ParseUint(text, 10, 16)
		return value{number: int(n)}, err
	}
}

// findVerdict looks a key up.
func (s *set) findVerdict(k []value) (*verdict, bool) {
	for text, b := range s.ranges {
		if boundsMatch(b, k) {
			return s.verdicts[text], true
		}
	}
	return nil, false
}

func boundsMatch(b []bounds, k []value) bool {
	for i := range b {
		if !b[i].contains(k[i]) {
			return false
		}
	}
	return true
}
