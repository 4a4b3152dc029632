package iptables

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// hooks are the chains of the filter table that jump to ours. OUTPUT decides about
// strays alone: a node reaches its own pods, and what it sends elsewhere is not a pod's.
var hooks = map[string]string{"FORWARD": forwardChain, "INPUT": inputChain, "OUTPUT": outputChain}

// jumpTo is a hook's rule that leads to a base chain. What is established, or related to that, is not judged, and
// meets no other rule.
func jumpTo(base string) string { return "-m conntrack ! --ctstate RELATED,ESTABLISHED -j " + base }

// jumpOfAll is a rule that leads everything there, which would be judged then. No version of the agent writes it.
func jumpOfAll(base string) string { return "-j " + base }

// Jumps are what iptables-restore reads to have the hooks, which are empty, lead to the base chains.
func Jumps() string {
	var b strings.Builder
	b.WriteString("*filter\n")
	for _, hook := range slices.Sorted(maps.Keys(hooks)) {
		b.WriteString("-A " + hook + " " + jumpTo(hooks[hook]) + "\n")
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// reading is what the kernel has of ours for one IP family.
type reading struct {
	// prints are the rules of our chains as the kernel's tools print them.
	prints map[string][]string
	// jumps says how each hook stands to our base chain, and ofAll how many jumps of everything it has.
	jumps map[string]jump
	ofAll map[string]int
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
func parseSave(text string) reading {
	s := reading{prints: map[string][]string{}, jumps: map[string]jump{}, ofAll: map[string]int{}, sets: map[string]Set{}}
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, ":"+chainPrefix); ok {
			name, _, _ = strings.Cut(name, " ")
			s.prints[chainPrefix+name] = []string{}
			continue
		}
		chain, rule, _ := strings.Cut(strings.TrimPrefix(line, "-A "), " ")
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		if _, ours := s.prints[chain]; ours {
			s.prints[chain] = append(s.prints[chain], rule)
		}
		if base, ok := hooks[chain]; ok {
			s.readHook(chain, base, rule, !seen[chain])
		}
		seen[chain] = true
	}
	return s
}

// readHook reads a rule of a hook.
func (s *reading) readHook(hook, base, rule string, begins bool) {
	switch {
	case rule == jumpOfAll(base):
		s.ofAll[hook]++
	case rule != jumpTo(base) || s.jumps[hook] != missing:
	case begins:
		s.jumps[hook] = first
	default:
		s.jumps[hook] = misplaced
	}
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
			if s.countEntries() > 0 { // ipset prints members behind their set
				s.Type = ""
				break
			}
			s = createdSet(fields, f)
		case "add":
			if s.isList() {
				s.Lists = append(s.Lists, fields[2])
				break
			}
			e, err := parseElement(fields[2])
			e.Except = s.Type == setTypes[policy.Networks] && slices.Equal(fields[3:], []string{nomatch})
			if err != nil || len(fields) > 3 && !e.Except {
				s.Type = ""
			}
			s.Elements = append(s.Elements, e)
		}
		sets[fields[1]] = s
	}
	for name, s := range sets {
		slices.SortFunc(s.Elements, policy.Element.Compare)
		slices.Sort(s.Lists)
		sets[name] = s
	}
	return sets
}

// createdSet is an empty set, without a type if it is not as we make it.
func createdSet(fields []string, f Family) Set {
	if fields[2] == listType {
		return createdList(fields, f)
	}
	s := Set{Name: fields[1], Family: f}
	options := strings.Join(fields[3:], " ") + " "
	var size int
	if i := slices.Index(fields, "maxelem"); i > 0 && i+1 < len(fields) {
		_, _ = fmt.Sscan(fields[i+1], &size)
	}
	if strings.HasPrefix(options, "family "+f.ipsetName()+" ") && size >= maxElements && !strings.Contains(options, "timeout") {
		s.Type = fields[2]
	}
	return s
}

// sameAs reports whether two readings found the same, but for sets that are to go.
func (s reading) sameAs(o reading, going map[string]bool) bool {
	return maps.EqualFunc(s.prints, o.prints, slices.Equal) && maps.Equal(s.jumps, o.jumps) && maps.Equal(s.ofAll, o.ofAll) &&
		maps.EqualFunc(exceptSets(s.sets, going), exceptSets(o.sets, going), Set.sameAs)
}

func exceptSets(sets map[string]Set, going map[string]bool) map[string]Set {
	out := maps.Clone(sets)
	maps.DeleteFunc(out, func(name string, _ Set) bool { return going[name] })
	return out
}

// isProgrammed reports whether all jumps are there and lead somewhere.
func (s reading) isProgrammed() bool {
	for hook, base := range hooks {
		if !s.hasJump(hook) || len(s.prints[base]) == 0 {
			return false
		}
	}
	return true
}

// hasJump reports whether a hook leads to our base chain.
func (s reading) hasJump(hook string) bool { return s.jumps[hook] != missing || s.ofAll[hook] > 0 }

// state is what the kernel holds of ours for one IP family, as far as is known without
// reading it.
type state struct {
	names names
	// rules are those of our chains as rendered, prints the same as the kernel's tools
	// print them, where that is known.
	rules, prints map[string][]string
	// dispatch are the chains that lead to classes, classes what the classes have.
	dispatch [2][]string
	classes  map[transition.Class]classParts
	// users are the numbers of classes that refer to the policy's sets and to lists of them, by base name.
	users map[string]int
	// sizes are the numbers of elements of sets, by name.
	sizes map[string]int
}

// classParts are the names of what a class has: chains, and the base names of sets.
type classParts struct {
	chains []string
	refs   map[string]policy.SetID
	lists  map[string][]policy.SetID
	own    []string
}

func (c *classRules) allParts() classParts {
	return classParts{chainNames(c.chains), c.refs, c.lists, slices.Collect(maps.Keys(c.own))}
}

// setBases are the base names of the sets and lists that the class shares with others.
func (c classParts) setBases() []string {
	return slices.AppendSeq(slices.Collect(maps.Keys(c.refs)), maps.Keys(c.lists))
}

func chainNames(chains []Chain) []string {
	var out []string
	for _, c := range chains {
		out = append(out, c.Name)
	}
	return out
}

// stateOf is that of a ruleset that was written as a whole.
func stateOf(v rendering, n names) state {
	s := state{names: n, rules: map[string][]string{}, prints: map[string][]string{}, classes: map[transition.Class]classParts{}, users: map[string]int{}, sizes: map[string]int{}}
	s.recordChains(v.frame)
	for _, d := range policy.Directions {
		s.recordChains(v.dispatch[d])
		s.dispatch[d] = chainNames(v.dispatch[d])
	}
	for k, c := range v.classes {
		s.recordChains(c.chains)
		s.setClass(k, c)
	}
	for _, set := range v.sets {
		s.sizes[set.Name] = set.countEntries()
	}
	return s
}

// recordSizes records what steps do to the sizes of sets.
func (s *state) recordSizes(steps []setStep) {
	for _, step := range steps {
		switch step.verb {
		case create:
			s.sizes[step.set.Name] = step.set.countEntries()
		case add:
			s.sizes[step.set.Name] += len(step.set.Elements)
		case del:
			s.sizes[step.set.Name] -= len(step.set.Elements)
		}
	}
}

// sizesFit reports whether the sets of a family have the sizes that they should have, and no others are there
// but those that are to go.
func (s *state) sizesFit(sizes map[string]int, f Family) bool {
	for name, n := range s.sizes {
		if there, ok := sizes[name]; !s.names.taken[name] && (!ok || there != n) {
			return false
		}
	}
	for name := range sizes {
		if _, ours := s.sizes[name]; strings.HasPrefix(name, setPrefix(f)) && !ours && !s.names.taken[name] {
			return false
		}
	}
	return true
}

// recordChains records that chains have other rules.
func (s *state) recordChains(chains []Chain) {
	for _, c := range chains {
		s.rules[c.Name] = c.Rules
		delete(s.prints, c.Name)
	}
}

// setClass records what a class has; nil is a class that is gone.
func (s *state) setClass(k transition.Class, c *classRules) {
	for _, base := range s.classes[k].setBases() {
		if s.users[base]--; s.users[base] == 0 {
			delete(s.users, base)
		}
	}
	if delete(s.classes, k); c == nil {
		return
	}
	s.classes[k] = c.allParts()
	for _, base := range s.classes[k].setBases() {
		s.users[base]++
	}
}

// matchingChains are the rules of the chains that print as is known.
func (s *state) matchingChains(r reading) map[string][]string {
	out := map[string][]string{}
	for name, rules := range s.rules {
		before, known := s.prints[name]
		if now, is := r.prints[name]; is && known && slices.Equal(before, now) {
			out[name] = rules
		}
	}
	return out
}

// learnPrints takes it as known that chains print as they do for the rules that were just
// written, where they printed the same before that. What somebody changes between
// the writing and the reading is not learned so.
func (s *state) learnPrints(before, after reading) {
	for name := range s.rules {
		then, was := before.prints[name]
		if now, is := after.prints[name]; is && was && slices.Equal(then, now) {
			s.prints[name] = now
		}
	}
}
