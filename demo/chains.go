package main

import (
	"net/netip"
	"slices"
	"strings"
)

// pathTo is the part of `iptables -S` that a packet to the address can meet on
// its way in, chain by chain from the first.
func pathTo(listing, address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return err.Error()
	}
	rules := map[string][]string{}
	for _, line := range strings.Split(listing, "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "-A" {
			rules[f[1]] = append(rules[f[1]], strings.Join(f[2:], " "))
		}
	}
	var out strings.Builder
	todo, seen := []string{"TIERWALL-FORWARD"}, map[string]bool{}
	for len(todo) > 0 {
		chain := todo[0]
		todo = todo[1:]
		if seen[chain] {
			continue
		}
		seen[chain] = true
		out.WriteString("\n   " + bold(chain) + "\n")
		for _, rule := range rules[chain] {
			if !concerns(rule, addr) {
				continue
			}
			for _, part := range wrap(rule, 100) {
				out.WriteString("      " + part + "\n")
			}
			if next := jump(rule); rules[next] != nil && !strings.Contains(next, "EGRESS") {
				todo = append(todo, next)
			}
		}
	}
	return out.String()
}

// concerns reports whether a rule can match a packet to the address.
func concerns(rule string, addr netip.Addr) bool {
	f := strings.Fields(rule)
	i := slices.Index(f, "-d")
	if i < 0 || i+1 == len(f) {
		return true
	}
	p, err := netip.ParsePrefix(f[i+1])
	return err != nil || p.Contains(addr)
}

// jump is the chain that a rule goes to, or "".
func jump(rule string) string {
	f := strings.Fields(rule)
	for _, flag := range []string{"-j", "-g"} {
		if i := slices.Index(f, flag); i >= 0 && i+1 < len(f) {
			return f[i+1]
		}
	}
	return ""
}
