// Package interpret reads the commands that nft reads, and says what happens to a
// packet. It knows the text alone, not the programs that it was rendered from,
// and refuses what it does not understand; so tests can hold a rendering against
// the meaning of the program.
package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Table is one table of family inet.
type Table struct {
	exists bool
	chains map[string]*chain
	sets   map[string]*set
}

type chain struct {
	// hook is that of a base chain, whose policy is accept.
	hook  string
	rules []rule
}

// New is a kernel without the table.
func New() *Table { return &Table{chains: map[string]*chain{}, sets: map[string]*set{}} }

// Clone is a copy that does not change with the table.
func (t *Table) Clone() *Table {
	out := &Table{exists: t.exists, chains: map[string]*chain{}, sets: map[string]*set{}}
	for name, c := range t.chains {
		out.chains[name] = &chain{c.hook, slices.Clone(c.rules)}
	}
	for name, s := range t.sets {
		out.sets[name] = s.clone()
	}
	return out
}

// Chains and Sets are the names of all there are, sorted.
func (t *Table) Chains() []string { return slices.Sorted(maps.Keys(t.chains)) }

// Sets are the names of sets and maps, sorted.
func (t *Table) Sets() []string { return slices.Sorted(maps.Keys(t.sets)) }

// Run does what "nft -f" does with the commands: all of them or, with an error, none.
func (t *Table) Run(script string) error {
	next := t.Clone()
	for i, line := range strings.Split(strings.TrimSuffix(script, "\n"), "\n") {
		if line == "" {
			continue
		}
		if err := next.runCommand(line); err != nil {
			return fmt.Errorf("line %d %q: %w", i+1, line, err)
		}
	}
	*t = *next
	return nil
}

func (t *Table) runCommand(line string) error {
	words := strings.SplitN(line, " ", 6)
	if len(words) < 4 || words[2] != "inet" || words[3] != "tierwall" {
		return fmt.Errorf("not a command about our table")
	}
	verb, kind, name, rest := words[0], words[1], "", ""
	if len(words) > 4 {
		name = words[4]
	}
	if len(words) > 5 {
		rest = words[5]
	}
	if kind == "table" {
		return t.changeTable(verb)
	}
	if !t.exists {
		return fmt.Errorf("no table")
	}
	switch kind {
	case "chain":
		return t.changeChain(verb, name, rest)
	case "set", "map":
		return t.changeSet(verb, kind, name, rest)
	case "element":
		return t.changeElement(verb, name, rest)
	case "rule":
		return t.addRule(verb, name, rest)
	}
	return fmt.Errorf("not understood")
}

func (t *Table) changeTable(verb string) error {
	switch verb {
	case "add":
		t.exists = true
	case "delete":
		if !t.exists {
			return fmt.Errorf("no table")
		}
		*t = *New()
	default:
		return fmt.Errorf("not understood")
	}
	return nil
}

func (t *Table) changeChain(verb, name, rest string) error {
	c := t.chains[name]
	if verb != "add" && c == nil {
		return fmt.Errorf("no such chain")
	}
	switch verb {
	case "add":
		hook, priority := "", 0
		if rest != "" {
			if n, err := fmt.Sscanf(rest, "{ type filter hook %s priority %d ; policy accept ; }", &hook, &priority); n != 2 || err != nil {
				return fmt.Errorf("not understood: %w", err)
			}
		}
		if c != nil && c.hook != hook {
			return fmt.Errorf("the chain exists at another hook")
		}
		if c == nil {
			t.chains[name] = &chain{hook: hook}
		}
	case "flush":
		c.rules = nil
	case "delete":
		if user := t.userOf("chain " + name); user != "" || len(c.rules) > 0 {
			return fmt.Errorf("in use by %q, %d rules", user, len(c.rules))
		}
		delete(t.chains, name)
	default:
		return fmt.Errorf("not understood")
	}
	return nil
}

func (t *Table) changeSet(verb, kind, name, rest string) error {
	s := t.sets[name]
	switch verb {
	case "add":
		made, err := newSet(kind, rest)
		if err != nil {
			return err
		}
		if s == nil {
			t.sets[name] = made
		} else if s.kind != made.kind {
			return fmt.Errorf("it exists as a %s", s.kind)
		}
	case "delete":
		if s == nil || s.isMap != (kind == "map") {
			return fmt.Errorf("no such %s", kind)
		}
		if user := t.userOf("set " + name); user != "" {
			return fmt.Errorf("in use by %q", user)
		}
		delete(t.sets, name)
	default:
		return fmt.Errorf("not understood")
	}
	return nil
}

func (t *Table) changeElement(verb, name, rest string) error {
	s := t.sets[name]
	if s == nil {
		return fmt.Errorf("no such set")
	}
	k, v, err := splitElement(rest)
	if err != nil {
		return err
	}
	if v != nil && !t.hasTarget(v.target) {
		return fmt.Errorf("no chain %s", v.target)
	}
	return s.changeElement(verb, k, v)
}

func (t *Table) hasTarget(target string) bool { return target == "" || t.chains[target] != nil }

func (t *Table) addRule(verb, name, rest string) error {
	c := t.chains[name]
	if verb != "add" || c == nil {
		return fmt.Errorf("no chain %s to add to", name)
	}
	r, err := parseRule(rest)
	if err != nil {
		return err
	}
	for _, set := range r.sets {
		if t.sets[set] == nil {
			return fmt.Errorf("no set %s", set)
		}
		if s := t.sets[set]; s.isMap != (r.vmap != nil) {
			return fmt.Errorf("%s is a %s", set, s.kind)
		}
	}
	if r.verdict != nil && !t.hasTarget(r.verdict.target) {
		return fmt.Errorf("no chain %s", r.verdict.target)
	}
	c.rules = append(c.rules, r)
	return nil
}

// InForce are the sets and maps that a packet may be looked up in, by name.
func (t *Table) InForce() map[string]bool {
	sets, chains := map[string]bool{}, map[string]bool{}
	var visit func(chain string)
	visit = func(chain string) {
		c := t.chains[chain]
		if c == nil || chains[chain] {
			return
		}
		chains[chain] = true
		for _, r := range c.rules {
			if r.verdict != nil {
				visit(r.verdict.target)
			}
			for _, name := range r.sets {
				sets[name] = true
				for _, v := range t.sets[name].verdicts {
					if v != nil {
						visit(v.target)
					}
				}
			}
		}
	}
	for name, c := range t.chains {
		if c.hook != "" {
			visit(name)
		}
	}
	return sets
}

// userOf is who refers to a chain or a set, or nothing.
func (t *Table) userOf(what string) string {
	for name, c := range t.chains {
		for _, r := range c.rules {
			if r.verdict != nil && what == "chain "+r.verdict.target {
				return name
			}
			for _, s := range r.sets {
				if what == "set "+s {
					return name
				}
			}
		}
	}
	for name, s := range t.sets {
		for _, v := range s.verdicts {
			if v != nil && what == "chain "+v.target {
				return name
			}
		}
	}
	return ""
}
