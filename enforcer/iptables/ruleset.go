package iptables

import "strings"

// Ruleset is what the kernel is to hold of ours for one IP family.
type Ruleset struct {
	Family Family
	// Chains are those of the filter table, base chains first. No two have one name.
	Chains []Chain
	// Sets are those that the chains refer to, sorted by name, and then the lists of them.
	Sets []Set
}

// Chain is a chain of ours with its rules, each as the arguments after "-A NAME".
type Chain struct {
	Name  string
	Rules []string
}

// RestoreText is the input of iptables-restore --noflush that makes the chains.
func (r Ruleset) RestoreText() string {
	var b strings.Builder
	b.WriteString("*filter\n")
	for _, c := range r.Chains {
		b.WriteString(declareChain(c.Name) + "\n")
	}
	for _, c := range r.Chains {
		for _, rule := range c.Rules {
			b.WriteString("-A " + c.Name + " " + rule + "\n")
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// SetText is the input of ipset restore that makes the sets.
func (r Ruleset) SetText() string {
	var b strings.Builder
	for _, s := range r.Sets {
		for _, line := range (setStep{create, s}).restoreLines() {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// declareChain is the line of iptables-restore that makes a chain, or empties it.
func declareChain(chain string) string { return ":" + chain + " - [0:0]" }
