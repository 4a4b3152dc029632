package ipt

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// hooks are the chains of the filter table that jump to ours. OUTPUT decides about
// strays alone: a node reaches its own pods, and what it sends elsewhere is not a pod's.
var hooks = map[string]string{"FORWARD": forwardChain, "INPUT": inputChain, "OUTPUT": outputChain}

// state is what the kernel holds of ours for one IP family, as far as is known.
type state struct {
	// rules are those of our chains as rendered; nil where they are not known.
	rules map[string][]string
	// prints are the rules of our chains as the kernel's tools print them.
	prints map[string][]string
	// jumps says how each hook stands to our base chain.
	jumps map[string]jump
	// sets are ours by name. One that cannot be understood has no type.
	sets map[string]Set
}

// jump is where a hook's jump to our base chain is.
type jump uint8

const (
	missing jump = iota
	misplaced
	first
)

// parseSave reads the filter table as iptables-save prints it.
func parseSave(text string) state {
	s := state{
		rules: map[string][]string{}, prints: map[string][]string{},
		jumps: map[string]jump{}, sets: map[string]Set{},
	}
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, ":"+chainPrefix); ok {
			name, _, _ = strings.Cut(name, " ")
			s.rules[chainPrefix+name], s.prints[chainPrefix+name] = nil, []string{}
			continue
		}
		chain, rule, _ := strings.Cut(strings.TrimPrefix(line, "-A "), " ")
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		if _, ours := s.prints[chain]; ours {
			s.prints[chain] = append(s.prints[chain], rule)
		}
		if base, ok := hooks[chain]; ok && rule == "-j "+base && s.jumps[chain] == missing {
			s.jumps[chain] = misplaced
			if !seen[chain] {
				s.jumps[chain] = first
			}
		}
		seen[chain] = true
	}
	return s
}

// parseSets reads our sets of a family from what ipset save prints.
func parseSets(text string, f Family) map[string]Set {
	sets := map[string]Set{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 3 || !strings.HasPrefix(fields[1], setPrefix(f)) {
			continue
		}
		s := sets[fields[1]]
		switch fields[0] {
		case "create":
			if len(s.Elements) > 0 { // ipset prints members behind their set
				s.Type = ""
				break
			}
			s = createdSet(fields, f)
		case "add":
			e, err := parseElement(fields[2])
			if err != nil || len(fields) > 3 {
				s.Type = ""
			}
			s.Elements = append(s.Elements, e)
		}
		sets[fields[1]] = s
	}
	for name, s := range sets {
		slices.SortFunc(s.Elements, policy.Element.Compare)
		sets[name] = s
	}
	return sets
}

// createdSet is an empty set, without a type if it is not as we make it.
func createdSet(fields []string, f Family) Set {
	s := Set{Name: fields[1], Family: f}
	options := strings.Join(fields[3:], " ") + " "
	var size int
	if i := slices.Index(fields, "maxelem"); i > 0 && i+1 < len(fields) {
		_, _ = fmt.Sscan(fields[i+1], &size)
	}
	if strings.HasPrefix(options, "family "+f.inet()+" ") && size >= maxElements && !strings.Contains(options, "timeout") {
		s.Type = fields[2]
	}
	return s
}

// sameKernel says whether two readings of the kernel found the same.
func (s state) sameKernel(o state) bool {
	if len(s.prints) != len(o.prints) || len(s.sets) != len(o.sets) {
		return false
	}
	for name, rules := range s.prints {
		if other, ok := o.prints[name]; !ok || !slices.Equal(rules, other) {
			return false
		}
	}
	for name, set := range s.sets {
		if other, ok := o.sets[name]; !ok || !set.sameAs(other) {
			return false
		}
	}
	for hook := range hooks {
		if s.jumps[hook] != o.jumps[hook] {
			return false
		}
	}
	return true
}

// trust takes over what an earlier state knows of chains that still print the same.
func (s *state) trust(earlier state) {
	for name, rules := range earlier.rules {
		before, known := earlier.prints[name]
		if now, ok := s.prints[name]; ok && known && slices.Equal(before, now) {
			s.rules[name] = rules
		}
	}
}

// learn takes it as known that chains print as they do for the rules that were just
// written, where they printed the same before that. What somebody changes between
// the writing and the reading is not learned so.
func (s *state) learn(before state, written Ruleset) {
	for _, c := range written.Chains {
		then, was := before.prints[c.Name]
		if now, is := s.prints[c.Name]; is && was && slices.Equal(then, now) {
			s.rules[c.Name] = c.Rules
		}
	}
}
