//go:build netns

package iptables_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/policy"
)

// listMembers is a program with rules whose peers are lists of sets; a rule that denies has its sets made beside.
func listMembers(peers, members int, v policy.Verdict) *policy.Program {
	d := newDraft()
	d.rule(v, d.sets("s", peers, members), ranges(120, 3))
	p := d.finish()
	id := policy.ClassID(fmt.Sprint("c", peers, v))
	for _, dir := range policy.Directions {
		p.Classes[dir] = map[policy.ClassID]*policy.Class{id: p.Classes[dir]["c"]}
		p.Endpoints[0].Class[dir] = id
	}
	return sample.Identified(p)
}

func TestListsOfSetsFollowTheProgram(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		b := n.Open()
		for i, p := range []*policy.Program{
			listMembers(8, 2, policy.Allow), listMembers(8, 3, policy.Allow), listMembers(7, 2, policy.Allow),
			listMembers(9, 2, policy.Deny), listMembers(9, 5, policy.Deny), listMembers(9, 0, policy.Deny), listMembers(6, 7, policy.Deny), listMembers(9, 2, policy.Allow),
		} {
			n.Apply(b, p)
			if n.Repair(b) {
				t.Fatalf("program %d: the kernel is not as written", i)
			}
			fresh := newNode(t, n.mode)
			fresh.Apply(fresh.Open(), p)
			if got, want := canonical(n.dump()), canonical(fresh.dump()); got != want {
				t.Fatalf("program %d: got\n%s\nwant\n%s", i, got, want)
			}
			if got, want := strings.Count(n.dump(), "list:set"), strings.Count(fresh.dump(), "list:set"); got != want {
				t.Fatalf("program %d: %d lists, want %d", i, got, want)
			}
		}
		n.Cleanup(b)
		if left := ours(n.dump()); strings.Contains(left, "tw4-") || strings.Contains(left, "TIERWALL") {
			t.Errorf("left behind:\n%s", left)
		}
	})
}

func TestARestartAdoptsLists(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		n.Apply(n.Open(), listMembers(9, 2, policy.Allow))
		before := ours(n.dump())
		if !strings.Contains(before, "list:set") {
			t.Fatal("there is no list")
		}
		n.Apply(n.Open(), listMembers(9, 2, policy.Allow))
		if after := ours(n.dump()); after != before {
			t.Errorf("a restart changed\n%s\nto\n%s", before, after)
		}
	})
}

func TestRepairMendsListsOfSets(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		b := n.Open()
		n.Apply(b, listMembers(8, 2, policy.Allow))
		n.Repair(b)
		list := regexp.MustCompile(`create (tw4-l\S+) list:set`).FindStringSubmatch(n.dump())[1]
		n.Run(t, "ipset", "del", list, "tw4-s3")
		if !n.Repair(b) {
			t.Error("a set that was taken from a list is not noticed")
		}
		if n.Repair(b) {
			t.Error("mended twice")
		}
		rule := regexp.MustCompile(`--match-set (tw4-l\S+) `).FindStringSubmatch(n.dump())[1]
		if members := n.Run(t, "ipset", "save", rule); !strings.Contains(members, "tw4-s3") {
			t.Errorf("the list in force is\n%s", members)
		}
	})
}
