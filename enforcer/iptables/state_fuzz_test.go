package iptables

import (
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// FuzzParseSave reads any text as iptables-save's. Only a jump of all that is not established, in the first place,
// counts as one; only chains with our prefix are ours; and what was read once means the
// same when it is printed again.
func FuzzParseSave(f *testing.F) {
	f.Add("*filter\n:FORWARD ACCEPT [0:0]\n:TIERWALL-FORWARD - [0:0]\n-A FORWARD -j TIERWALL-FORWARD\n-A TIERWALL-FORWARD -j DROP\nCOMMIT\n")
	f.Add("-A FORWARD -s 10.0.0.0/8 -j TIERWALL-FORWARD\n-A INPUT -j ACCEPT\n-A INPUT -j TIERWALL-INPUT\n")
	f.Add(":TIERWALL- - [0:0]\n-A TIERWALL- -j DROP\n-A")
	f.Add("-A FORWARD\n-A FORWARD -j TIERWALL-FORWARD\n")
	f.Add("-A FORWARD " + jumpTo(forwardChain) + "\n-A INPUT -j DROP\n-A INPUT " + jumpTo(inputChain) + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := parseSave(text)
		for chain := range s.prints {
			if !strings.HasPrefix(chain, chainPrefix) {
				t.Errorf("chain %q is said to be ours", chain)
			}
		}
		for hook, j := range s.jumps {
			want := "-A " + hook + " " + jumpTo(hooks[hook])
			if j != missing && !strings.Contains(text, want) {
				t.Errorf("%s has no jump, but is said to: %v", hook, j)
			}
			if j == first && !firstOf(text, hook, want) {
				t.Errorf("%s does not begin with our jump", hook)
			}
		}
		if again := parseSave(printed(s)); !s.sameAs(withJumps(again, s), nil) {
			t.Errorf("%q was read as %+v, and that as %+v", text, s, again)
		}
	})
}

// firstOf reports whether the first rule of a chain is that line.
func firstOf(text, chain, line string) bool {
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		if l == "-A "+chain || strings.HasPrefix(l, "-A "+chain+" ") {
			return l == line
		}
	}
	return false
}

func printed(s reading) string {
	var b strings.Builder
	for chain := range s.prints {
		b.WriteString(":" + chain + " - [0:0]\n")
	}
	for chain, rules := range s.prints {
		for _, r := range rules {
			b.WriteString("-A " + chain + " " + r + "\n")
		}
	}
	return b.String()
}

// withJumps is a reading with the jumps of another: printed prints none.
func withJumps(s, of reading) reading {
	s.jumps, s.ofAll = of.jumps, of.ofAll
	return s
}

// FuzzParseSets reads any text as ipset's. A set that is taken for one of ours holds exactly what the
// text adds to it.
func FuzzParseSets(f *testing.F) {
	f.Add("create tw4-x hash:ip family inet hashsize 64 maxelem 1048576 bucketsize 12 initval 0x1\nadd tw4-x 10.0.0.1\nadd tw4-x 10.0.0.2\n")
	f.Add("create tw4-x hash:ip,port family inet hashsize 64 maxelem 1048576\nadd tw4-x 10.0.0.1,tcp:80\nadd tw4-x 10.0.0.1,icmp:echo-request\n")
	f.Add("create tw4-x hash:net family inet hashsize 64 maxelem 1048576 timeout 7\nadd tw4-x 10.0.0.0/8 timeout 3\nadd tw4-x 10.0.0.0/9 nomatch\n")
	f.Add("add tw4-x 10.0.0.1\ncreate tw4-x hash:ip family inet hashsize 64 maxelem 9999999\n")
	f.Add("create tw4-x hash:ip family inet6 hashsize 64 maxelem 1048576\nadd tw4-y 10.0.0.1\nadd tw4-x fd00::1\n")
	f.Fuzz(func(t *testing.T, text string) {
		for name, s := range parseSets(text, IPv4) {
			if !strings.HasPrefix(name, setPrefix(IPv4)) {
				t.Errorf("set %q is said to be ours", name)
			}
			if s.Type == "" {
				continue // not as we make any
			}
			for _, line := range addsTo(text, name) {
				e, err := parseElement(line)
				if err != nil || !slices.Contains(s.Elements, e) {
					t.Errorf("set %s is taken for ours, but has %q (%v) beside %v", name, line, err, s.Elements)
				}
			}
			if n := len(addsTo(text, name)); n != len(s.Elements) {
				t.Errorf("set %s has %d elements, %d were added", name, len(s.Elements), n)
			}
			if !slices.IsSortedFunc(s.Elements, policy.Element.Compare) {
				t.Errorf("set %s is not sorted: %v", name, s.Elements)
			}
		}
	})
}

// addsTo are what the lines of a text add to a set, with whatever follows.
func addsTo(text, name string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "add" && fields[1] == name {
			out = append(out, strings.Join(fields[2:], " "))
		}
	}
	return out
}

// FuzzParseElement reads any text as an element. One that is read is written as it was, or in its
// canonical form.
func FuzzParseElement(f *testing.F) {
	for _, text := range []string{"10.0.0.1", "10.0.0.0/8", "fd00::1", "fd00::/8", "10.0.0.1,tcp:80", "10.0.0.1,udp:65536", "10.0.0.1,tcp:", "10.0.0.1,6:80", "::ffff:10.0.0.1", "fe80::1%eth0", ",", "10.0.0.1/33"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseElement(text)
		if err != nil {
			return
		}
		again, err := parseElement(elementText(e))
		if err != nil || again != e {
			t.Errorf("%q was read as %v, which is written %q and read as %v (%v)", text, e, elementText(e), again, err)
		}
	})
}
