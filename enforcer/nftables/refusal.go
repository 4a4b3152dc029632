package nftables

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
	"github.com/tierwall/tierwall/enforcer/refusal"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// refusalsPerMove is how often one change may be refused and tried again with more classes closed.
const refusalsPerMove = 16

// refusedCommand is what nft prints of a command that the kernel refused.
var refusedCommand = regexp.MustCompile(`(?m)Error: (.*)\n\w+ (?:rule|chain|set|map|element) inet ` + tableName + ` (\S+)`)

// refusedNames are the chains and sets that an error is about. One that says that something is missing, or there already, is about
// a table that others change.
func refusedNames(err error) (out []string) {
	for e := range refusalsIn(err) {
		if !errors.Is(e.Err, unix.ENOENT) && !errors.Is(e.Err, unix.EEXIST) {
			_, name, _ := strings.Cut(e.About, " ")
			out = append(out, name)
		}
	}
	if err == nil {
		return nil
	}
	for _, m := range refusedCommand.FindAllStringSubmatch(err.Error(), -1) {
		if !strings.Contains(m[1], "No such file or directory") && !strings.Contains(m[1], "File exists") {
			out = append(out, m[2])
		}
	}
	return out
}

// refusalsIn are the refusals of one transaction that an error has.
func refusalsIn(err error) func(yield func(*nfnetlink.Refusal) bool) {
	return func(yield func(*nfnetlink.Refusal) bool) {
		var first *nfnetlink.Refusal
		if !errors.As(err, &first) || !yield(first) {
			return
		}
		for _, r := range first.Others {
			if !yield(r) {
				return
			}
		}
	}
}

// closeRefused closes the classes that an error is about. It reports whether there are any that were not closed yet.
func (b *Backend) closeRefused(err error) (found bool) {
	for _, name := range refusedNames(err) {
		for _, k := range b.classesOf(baseName(name)) {
			if b.refused[k] == nil {
				b.refused[k], found = err, true
			}
		}
	}
	return found
}

// classesOf are the classes that a chain or a set of the last program rendered belongs to.
func (b *Backend) classesOf(base string) (out []transition.Class) {
	if ref := b.state.refs[base]; ref != nil {
		return slices.Collect(maps.Keys(ref.classes))
	}
	for _, d := range policy.Directions {
		for id := range b.program.Classes[d] {
			k := transition.Class{Direction: d, ID: id}
			for _, f := range []family{ipv4, ipv6} {
				own := classChain(f, d, b.state.slots.SlotOf(k), 0)
				if base == own || strings.HasPrefix(base, own+"-run") || strings.HasPrefix(base, own+"-part") {
					out = append(out, k)
				}
			}
		}
	}
	return out
}

// touchesClosed reports whether a change is about a class that is closed, or about an endpoint that has, or had, one.
// Whether it then allows more or less does not follow from the programs.
func (s *state) touchesClosed(old, next *policy.Program, c *policy.Change) bool {
	if len(s.closed) == 0 {
		return false
	}
	for _, d := range policy.Directions {
		for _, id := range c.ClassesGone[d] {
			if s.closed[transition.Class{Direction: d, ID: id}] != nil {
				return true
			}
		}
	}
	for _, p := range []*policy.Program{old, next} {
		for _, classes := range transition.ClassesOf(p, c) {
			for _, d := range policy.Directions {
				if s.closed[transition.Class{Direction: d, ID: classes[d]}] != nil {
					return true
				}
			}
		}
	}
	return false
}

// Problems are the objects whose rules cannot be in force on the node, as the last program has them; their
// endpoints are closed.
func (b *Backend) Problems() []policy.Problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.problems
}

// reportProblems records the objects of classes that are closed, and logs the classes that were not before.
func (b *Backend) reportProblems() {
	if len(b.refused)+len(b.reported) == 0 {
		return
	}
	b.problems = b.refused.Problems(b.program)
	for k, err := range b.refused {
		if c := k.ClassIn(b.program); c != nil && b.reported[k] == nil {
			b.log.Error("rules of a class refused; its pods are closed", "direction", k.Direction, "objects", refusal.ObjectsOf(c), "err", err)
		}
	}
	b.reported = maps.Clone(b.refused)
}

// retryEvery is how many repairs come to one that tries whether the kernel takes by now what it refused.
const retryEvery = 12

// retriesRefused reports whether what was refused is to be tried again, and counts repairs.
func (b *Backend) retriesRefused() bool {
	b.repairs++
	if len(b.refused) == 0 || b.repairs%retryEvery != 0 {
		return false
	}
	clear(b.refused)
	return true
}
