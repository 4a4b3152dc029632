package diff

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// portRange is ports of a protocol.
type portRange struct {
	protocol    string
	first, last int
}

// portSet is the ports of a row.
type portSet struct {
	any    bool
	ranges []portRange
	// others are names of ports, and protocols without ports.
	others []string
}

// portsOf reads the ports of a row, such as "TCP/80", "UDP/1000-2000", "TCP/http" or "any".
func portsOf(texts []string) portSet {
	var s portSet
	for _, text := range texts {
		protocol, port, ok := strings.Cut(text, "/")
		first, last, isRange := strings.Cut(port, "-")
		if !isRange {
			last = first
		}
		low, err := strconv.Atoi(first)
		high, err2 := strconv.Atoi(last)
		switch {
		case text == "any":
			s.any = true
		case !ok || err != nil || err2 != nil:
			s.others = append(s.others, text)
		default:
			s.ranges = append(s.ranges, portRange{protocol, low, high})
		}
	}
	return s
}

// intersect returns the ports that are in both.
func (s portSet) intersect(o portSet) portSet {
	if s.any {
		return o
	}
	if o.any {
		return s
	}
	var out portSet
	for _, a := range s.ranges {
		for _, b := range o.ranges {
			if first, last := max(a.first, b.first), min(a.last, b.last); a.protocol == b.protocol && first <= last {
				out.ranges = append(out.ranges, portRange{a.protocol, first, last})
			}
		}
	}
	for _, name := range s.others {
		if slices.Contains(o.others, name) {
			out.others = append(out.others, name)
		}
	}
	return out
}

// equal reports whether both were written alike.
func (s portSet) equal(o portSet) bool {
	return s.any == o.any && slices.Equal(s.ranges, o.ranges) && slices.Equal(s.others, o.others)
}

func (s portSet) isEmpty() bool { return !s.any && len(s.ranges)+len(s.others) == 0 }

// hasNames reports whether a port is known by its name alone, which can be any number.
func (s portSet) hasNames() bool {
	return slices.ContainsFunc(s.others, func(text string) bool { return strings.Contains(text, "/") })
}

func (s portSet) String() string {
	if s.any {
		return "any"
	}
	var out []string
	for _, r := range s.ranges {
		text := fmt.Sprintf("%s/%d", r.protocol, r.first)
		if r.last > r.first {
			text += fmt.Sprintf("-%d", r.last)
		}
		out = append(out, text)
	}
	return strings.Join(append(out, s.others...), ", ")
}
