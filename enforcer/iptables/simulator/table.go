// Package interpret reads rules as iptables-restore does and sets as ipset does,
// and says what happens to a packet. It knows the text alone, not the programs
// that it was rendered from, and refuses what it does not understand; so tests can
// hold a rendering against the meaning of the program.
package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Table is the filter table of one IP family with the sets that it refers to.
type Table struct {
	chains map[string][]rule
	sets   map[string]*set
}

// hooks are the chains that exist without being made. Their policy is ACCEPT.
var hooks = []string{"INPUT", "FORWARD", "OUTPUT"}

// New is an empty table.
func New() *Table {
	t := &Table{chains: map[string][]rule{}, sets: map[string]*set{}}
	for _, h := range hooks {
		t.chains[h] = nil
	}
	return t
}

// Chains are the names of all chains, sorted.
func (t *Table) Chains() []string { return slices.Sorted(maps.Keys(t.chains)) }

// Sets are the names of all sets, sorted.
func (t *Table) Sets() []string { return slices.Sorted(maps.Keys(t.sets)) }

// Restore does what iptables-restore --noflush does with the text: all of it or,
// with an error, nothing.
func (t *Table) Restore(text string) error {
	next := &Table{chains: maps.Clone(t.chains), sets: t.sets}
	open := false
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		var err error
		switch {
		case line == "*filter" && !open:
			open = true
		case line == "COMMIT" && open:
			open = false
		case !open:
			err = fmt.Errorf("outside of a table")
		default:
			err = next.runCommand(line)
		}
		if err != nil {
			return fmt.Errorf("line %d %q: %w", i+1, line, err)
		}
	}
	if open {
		return fmt.Errorf("no COMMIT")
	}
	if err := next.checkReferences(); err != nil {
		return err
	}
	t.chains = next.chains
	return nil
}

// runCommand carries out one line of the table.
func (t *Table) runCommand(line string) error {
	words, err := splitWords(line)
	if err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(line, ":") && len(words) == 3 && words[1] == "-":
		return t.declareChain(words[0][1:])
	case len(words) == 2 && words[0] == "-X":
		return t.removeChain(words[1])
	case len(words) >= 3 && (words[0] == "-A" || words[0] == "-I" || words[0] == "-D"):
		return t.editChain(words[0], words[1], words[2:])
	default:
		return fmt.Errorf("not understood")
	}
}

// declareChain makes a chain, or empties it.
func (t *Table) declareChain(name string) error {
	if len(name) > 28 || strings.HasPrefix(name, "-") {
		return fmt.Errorf("bad name of a chain")
	}
	t.chains[name] = nil
	return nil
}

func (t *Table) removeChain(name string) error {
	if rules, ok := t.chains[name]; !ok || len(rules) > 0 || slices.Contains(hooks, name) {
		return fmt.Errorf("no empty chain of ours to delete")
	}
	delete(t.chains, name)
	return nil
}

func (t *Table) editChain(command, chain string, words []string) error {
	rules, ok := t.chains[chain]
	if !ok {
		return fmt.Errorf("no chain %s", chain)
	}
	if command == "-I" && words[0] == "1" {
		words = words[1:]
	}
	r, err := parseRule(words)
	if err != nil {
		return err
	}
	switch command {
	case "-A":
		t.chains[chain] = append(slices.Clip(rules), r)
	case "-I":
		t.chains[chain] = slices.Insert(slices.Clone(rules), 0, r)
	case "-D":
		i := slices.IndexFunc(rules, func(o rule) bool { return o.text == r.text })
		if i < 0 {
			return fmt.Errorf("no such rule")
		}
		t.chains[chain] = slices.Delete(slices.Clone(rules), i, i+1)
	}
	return nil
}

// checkReferences makes sure that every chain and every set that a rule refers to is there.
func (t *Table) checkReferences() error {
	for name, rules := range t.chains {
		for _, r := range rules {
			if _, ok := t.chains[r.target]; !ok && !slices.Contains([]string{"", "ACCEPT", "DROP", "NFLOG", "REJECT", "RETURN"}, r.target) {
				return fmt.Errorf("chain %s leads to %s, which is not there", name, r.target)
			}
			for _, s := range r.sets {
				if t.sets[s] == nil {
					return fmt.Errorf("chain %s refers to set %s, which is not there", name, s)
				}
			}
		}
	}
	return nil
}

// splitWords splits a line into words as iptables-restore does: at blanks outside of
// double quotes; a backslash takes the next character as it is.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quoted, escaped, inside := false, false, false
	for _, c := range line {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quoted:
			escaped = true
		case c == '"':
			quoted, inside = !quoted, true
		case c == ' ' && !quoted:
			if inside {
				words = append(words, word.String())
			}
			word.Reset()
			inside = false
		default:
			word.WriteRune(c)
			inside = true
		}
	}
	if quoted || escaped {
		return nil, fmt.Errorf("a quote that does not end")
	}
	if inside {
		words = append(words, word.String())
	}
	return words, nil
}
