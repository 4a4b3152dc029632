package iptables

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// Whatever their hashes are, different sets and chains have different names in the kernel, which fit. Built with
// the tag shorthash, hashes have 8 bits.
func TestEverySetAndChainHasANameOfItsOwn(t *testing.T) {
	n := newNames()
	of := map[string]string{}
	see := func(kind, name, what string, size int) {
		if other, taken := of[kind+name]; taken && other != what {
			t.Fatalf("%s and %s have the name %s", what, other, name)
		}
		if of[kind+name] = what; len(name) > size || ruletext.Sanitize(name, ".-_/") != name {
			t.Fatalf("the kernel does not take the name %s of %s", name, what)
		}
	}
	for again := range 2 {
		for i := range 700 {
			id := fmt.Sprintf("%s%04d", strings.Repeat("0", 60), i)
			see("set ", n.setName(policySet(IPv4, policy.SetID("p"+id))), "set "+id, maxSetName)
			for _, d := range policy.Directions {
				for part := range 3 {
					see("chain ", n.chainName(classChain(d, policy.ClassID(id), part)), fmt.Sprint(d, id, part), maxChainName)
				}
				see("chain ", n.chainName(dispatchChain(d, netip.MustParsePrefix(fmt.Sprintf("fd00::%x:0/112", i)))), fmt.Sprint("dispatch", d, i), maxChainName)
				see("set ", n.setName(ownSet(IPv4, d, policy.ClassID(id), "0.0", "ports")), fmt.Sprint("own", d, id), maxSetName)
			}
			see("set ", n.setName(listSet(IPv4, []policy.SetID{policy.SetID(id)})), "list "+id, maxSetName)
		}
		if len(of) != 700*(1+1+2*(3+1+1)) {
			t.Fatalf("round %d: %d names", again, len(of))
		}
	}
}

// A name that a clash of hashes would give twice is numbered, and free again once what has it is gone.
func TestAClashOfHashesIsResolvedByANumber(t *testing.T) {
	id := strings.Repeat("a", 64)
	for kind, c := range map[string]struct {
		base  string
		table func(names) nameTable
		name  func(names, string) string
	}{
		"a class": {classChain(policy.Ingress, policy.ClassID(id), 0), func(n names) nameTable { return n.chains }, names.chainName},
		"a part":  {classChain(policy.Egress, policy.ClassID(id), 2), func(n names) nameTable { return n.chains }, names.chainName},
		"a set":   {policySet(IPv6, policy.SetID(id)), func(n names) nameTable { return n.sets }, names.setName},
		"a merge": {ownSet(IPv4, policy.Ingress, policy.ClassID(id), "0.0", "peers"), func(n names) nameTable { return n.sets }, names.setName},
	} {
		n := newNames()
		clash := numberedName(c.base, 0, maxChainName)
		c.table(n).assignName("another", clash)
		name := c.name(n, c.base)
		if name == clash || c.name(n, c.base) != name || c.name(n, "another") != clash {
			t.Errorf("%s: the names are %s and %s", kind, name, clash)
		}
		c.table(n).releaseName(clash)
		if c.name(n, c.base) != name || !c.table(n).isFree(clash) {
			t.Errorf("%s: the name of what stays changes, or that of what went is not free", kind)
		}
	}
}

// After a restart, sets that are as wanted are kept under the names that they have. Two of one hash that are alike
// at the moment do not share one.
func TestSetsThatAreAlikeDoNotShareOneOfTheKernel(t *testing.T) {
	long := strings.Repeat("a", 64)
	bases := []string{policySet(IPv4, policy.SetID(long)), numberedName(policySet(IPv4, policy.SetID(long)), 0, maxSetName)}
	if numberedName(bases[0], 0, maxSetName) != numberedName(bases[1], 0, maxSetName) {
		t.Fatalf("%q do not clash", bases)
	}
	alike := Set{Type: "hash:ip", Family: IPv4}
	v := rendering{sets: map[string]Set{bases[0]: alike, bases[1]: alike}}
	for name, there := range map[string]map[string]Set{"nothing there": {}, "one there": {bases[1]: alike}, "two there": {bases[1]: alike, bases[1] + ".1": alike}} {
		n := newNames()
		(&table{family: IPv4}).renameSets(n, v, there, nil)
		if n.setName(bases[0]) == n.setName(bases[1]) {
			t.Errorf("%s: both are %s", name, n.setName(bases[0]))
		}
		n = newNames()
		(&table{family: IPv4}).renameSets(n, v, there, map[string]string{bases[0]: bases[1]})
		if n.setName(bases[0]) == n.setName(bases[1]) || there[bases[1]].Type != "" && n.setName(bases[0]) != bases[1] {
			t.Errorf("%s, one in force: they are %s and %s", name, n.setName(bases[0]), n.setName(bases[1]))
		}
	}
}
