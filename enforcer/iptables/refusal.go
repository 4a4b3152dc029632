package iptables

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/command"
	"github.com/tierwall/tierwall/enforcer/refusal"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// refusalsPerMove is how many of them one change may meet: each costs a try.
const refusalsPerMove = 16

// setError is the kernel's refusal of a set.
type setError struct {
	name string
	err  error
}

func (e *setError) Error() string { return e.err.Error() }

// Unwrap is that of package errors.
func (e *setError) Unwrap() error { return e.err }

// refusedClasses finds the classes that an error is about: those of the chain in a line that was refused, those that refer to
// a set that was, and the largest where a tool did not come to an end. It finds none where it is about all.
func refusedClasses(err error, tables []*table) []transition.Class {
	var set *setError
	var failed *command.Error
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST):
		return nil // others change the sets
	case errors.As(err, &set):
		return usersOfSet(set.name, tables)
	case !errors.As(err, &failed):
		return nil
	case failed.Line() > 0:
		return ownersOfChain(failed.Lines[failed.Line()-1], tables)
	case errors.Is(err, command.ErrKilled):
		return largestClass(tables)
	}
	return nil
}

func usersOfSet(name string, tables []*table) (out []transition.Class) {
	for _, t := range tables {
		for k, parts := range t.state.classes {
			if slices.ContainsFunc(slices.Concat(parts.setBases(), parts.own), func(base string) bool { return t.state.names.sets.known[base] == name }) {
				out = append(out, k)
			}
		}
	}
	return out
}

func ownersOfChain(line string, tables []*table) (out []transition.Class) {
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "-A" {
		return nil
	}
	for _, t := range tables {
		for k, parts := range t.state.classes {
			if slices.Contains(parts.chains, words[1]) {
				out = append(out, k)
			}
		}
	}
	return out
}

// worthClosing is the number of rules below which a class is not why a tool takes too long.
const worthClosing = 1000

func largestClass(tables []*table) []transition.Class {
	rules := map[transition.Class]int{}
	for _, t := range tables {
		for k, parts := range t.state.classes {
			for _, name := range parts.chains {
				rules[k] += len(t.state.rules[name])
			}
		}
	}
	var out []transition.Class
	for k, n := range rules {
		if n >= worthClosing && (len(out) == 0 || cmp.Or(cmp.Compare(n, rules[out[0]]), strings.Compare(string(k.ID), string(out[0].ID))) > 0) {
			out = []transition.Class{k}
		}
	}
	return out
}

// closeRefused has the classes that an error is about closed. It reports whether there are any that are not yet.
func (b *Backend) closeRefused(err error) bool {
	found := false
	for _, k := range refusedClasses(err, b.tables) {
		if b.refused[k] == nil {
			b.refused[k], found = err, true
		}
	}
	return found
}

// Problems are the objects whose rules cannot be in force on the node, as the last program has them; their
// endpoints are closed.
func (b *Backend) Problems() []policy.Problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.problems
}

// reportProblems records which classes are not in force, and logs those that were not before.
func (b *Backend) reportProblems() {
	closed := maps.Clone(b.refused)
	for _, t := range b.tables {
		maps.Copy(closed, t.failed)
	}
	b.problems = closed.Problems(b.program)
	for k, err := range closed {
		if c := k.ClassIn(b.program); c != nil && b.closed[k] == nil {
			b.log.Error("rules of a class refused; its pods are closed", "direction", k.Direction, "objects", refusal.ObjectsOf(c), "err", err)
		}
	}
	b.closed = closed
}
