package spoof

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/command"
)

// IPTables guards with iptables and ipset, in the table raw, which comes before connection tracking.
type IPTables struct {
	// Mode is nft or legacy.
	Mode string
	// Log is for what is dropped.
	Log Log
	// AnySource says that sources are not held against the routes; those that are link-local are judged still.
	AnySource bool
}

// Name implements Kernel.
func (t IPTables) Name() string { return "iptables-" + t.Mode }

// WithAnySource implements Kernel.
func (t IPTables) WithAnySource() Kernel {
	t.AnySource = true
	return t
}

const (
	sourcesChain = "TIERWALL-SOURCES"
	foreignChain = "TIERWALL-FOREIGN"
	linkChain    = "TIERWALL-LINK"
	localChain   = "TIERWALL-LINK-LOCAL"
	onLinkChain  = "TIERWALL-ON-LINK"
	// maxInterfaces is how many interfaces a set can have with one network (ipset(8), hash:net,iface).
	maxInterfaces = 64
)

// chains are ours, in an order in which none refers to one before it.
var chains = []string{sourcesChain, linkChain, localChain, onLinkChain, foreignChain}

// hookRules are the only rules that other packets meet, in their order.
var hookRules = []string{"PREROUTING -j " + linkChain, "PREROUTING -m rpfilter --invert -j " + sourcesChain}

// ipFamily is an IP family as the tools call it.
type ipFamily struct {
	command, inet, any string
	// sets is what the names of our sets begin with.
	sets string
	// passes are the packets that hosts on a link need to find each other, as matches.
	passes []string
	// linkLocal is the network of link-local addresses, if its packets are judged whatever the routes; onLink are
	// destinations on the link alone.
	linkLocal string
	onLink    []string
}

var ipFamilies = []ipFamily{
	{command: "iptables", inet: "inet", sets: "tws4", any: "0.0.0.0/0", passes: []string{"-p udp -m udp --dport 67"},
		onLink: []string{"224.0.0.0/4", "255.255.255.255/32"}},
	{command: "ip6tables", inet: "inet6", sets: "tws6", any: "::/0", passes: slices.Concat(discoveryMatches("255", 133, 135, 136), discoveryMatches("1", 131, 132, 143)),
		linkLocal: "fe80::/10", onLink: []string{"fe80::/10", "ff00::/8"}},
}

// discoveryMatches are messages of ICMPv6 with code 0 and a hop limit: 133, 135 and 136 are those of RFC 4861 that a host sends, 131,
// 132 and 143 those of multicast listeners (RFC 2710, RFC 3810).
func discoveryMatches(hopLimit string, types ...int) (out []string) {
	for _, kind := range types {
		match := fmt.Sprintf("-p ipv6-icmp -m icmp6 --icmpv6-type %d/0 -m hl --hl-eq %s", kind, hopLimit)
		if hopLimit == "1" {
			match = "-d ff02::/16 " + match
		}
		out = append(out, match)
	}
	return out
}

// group is a part of the interfaces, whose sets have its letter in their names.
type group byte

const guardedGroup, podsGroup, sharedGroup group = 'g', 'p', 's'

// byGroup returns the interfaces of each group.
func (i Interfaces) byGroup() map[group][]string {
	return map[group][]string{guardedGroup: i.Guarded(), podsGroup: i.All(), sharedGroup: i.Shared}
}

// setNames returns the names of the sets of a group in a generation, which is a or b.
func (f ipFamily) setNames(generation string, g group, interfaces []string) (out []string) {
	for n := range (len(interfaces) + maxInterfaces - 1) / maxInterfaces {
		out = append(out, fmt.Sprintf("%s%s%c%d", f.sets, generation, g, n))
	}
	return out
}

// setLines returns the input of ipset that makes a generation of sets.
func (f ipFamily) setLines(generation string, i Interfaces) []string {
	var out []string
	groups := i.byGroup()
	for _, g := range []group{guardedGroup, podsGroup, sharedGroup} {
		names := f.setNames(generation, g, groups[g])
		for n, chunk := range slices.Collect(slices.Chunk(groups[g], maxInterfaces)) {
			out = append(out, "create "+names[n]+" hash:net,iface family "+f.inet, "flush "+names[n])
			for _, link := range chunk {
				out = append(out, "add "+names[n]+" "+f.any+","+link)
			}
		}
	}
	return out
}

// chainLines are what iptables-restore reads: our chains, which refer to a generation of
// sets, and those of the rules that lead there that are missing.
func (t IPTables) chainLines(f ipFamily, generation string, i Interfaces, missing []string) []string {
	out := []string{"*raw"}
	for _, chain := range chains {
		out = append(out, ":"+chain+" - [0:0]")
	}
	groups := i.byGroup()
	rule := func(chain, text string) { out = append(out, "-A "+chain+" "+text) }
	drop := func(chain, match string, g group) {
		for _, set := range f.setNames(generation, g, groups[g]) {
			rule(chain, match+"-m set --match-set "+set+" src,src -g "+foreignChain)
		}
	}
	if !t.AnySource {
		for _, tunnel := range i.Tunnels {
			drop(linkChain, tunnel.iptablesMatch(), podsGroup)
		}
	}
	if f.linkLocal != "" {
		rule(linkChain, "-s "+f.linkLocal+" -g "+localChain)
		rule(linkChain, "-s ::/128 -g "+localChain) // for which rpfilter has a route
	}
	for _, network := range f.onLink {
		rule(linkChain, "-d "+network+" -g "+onLinkChain)
	}
	for _, match := range f.passes {
		for _, chain := range []string{localChain, onLinkChain} {
			rule(chain, match+" -j RETURN")
		}
	}
	if f.linkLocal != "" {
		rule(sourcesChain, "-s "+f.linkLocal+" -j RETURN") // judged already
	}
	drop(localChain, "", podsGroup)
	drop(onLinkChain, "", sharedGroup)
	switch {
	case !t.AnySource:
		drop(sourcesChain, "", guardedGroup)
	case f.linkLocal == "":
		drop(sourcesChain, "-s "+linkLocal4+" ", guardedGroup)
	}
	if t.Log.PerSecond > 0 {
		rule(foreignChain, t.Log.iptablesRule())
	}
	rule(foreignChain, "-j DROP")
	for _, hook := range missing {
		out = append(out, "-I "+strings.Replace(hook, "PREROUTING", "PREROUTING 1", 1))
	}
	return append(out, "COMMIT")
}

// iptablesMatch returns the tunnel as a match, followed by a space.
func (t Tunnel) iptablesMatch() string {
	if t.Port == 0 {
		return fmt.Sprintf("-p %d ", t.Protocol)
	}
	return fmt.Sprintf("-p udp -m udp --dport %d ", t.Port)
}

// Write implements Kernel. Each IP family switches atomically from one generation of sets to the other.
func (t IPTables) Write(ctx context.Context, i Interfaces) error {
	for _, f := range ipFamilies {
		kept, err := f.destroySets(ctx)
		if err != nil {
			return err
		}
		generation := "a"
		if slices.ContainsFunc(kept, func(name string) bool { return strings.HasPrefix(name, f.sets+"a") }) {
			generation = "b"
		}
		if lines := f.setLines(generation, i); len(lines) > 0 {
			if _, err := command.Run(ctx, lines, "ipset", "restore", "-exist"); err != nil {
				return err
			}
		}
		missing := slices.DeleteFunc(slices.Clone(hookRules), func(rule string) bool { return t.hasHook(ctx, f, rule) })
		if _, err := command.Run(ctx, t.chainLines(f, generation, i, missing), f.command+"-"+t.Mode+"-restore", "--noflush", "-w", command.LockWait); err != nil {
			return err
		}
	}
	return nil
}

// hasHook reports whether a rule that leads to our chains exists.
func (t IPTables) hasHook(ctx context.Context, f ipFamily, rule string) bool {
	args := append([]string{"-w", command.LockWait, "-t", "raw", "-C"}, strings.Fields(rule)...)
	_, err := command.Run(ctx, nil, f.command+"-"+t.Mode, args...)
	return err == nil
}

// listSets returns the names of our sets.
func (f ipFamily) listSets(ctx context.Context) ([]string, error) {
	text, err := command.Run(ctx, nil, "ipset", "list", "-n")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Fields(text), func(name string) bool { return !strings.HasPrefix(name, f.sets) }), nil
}

// destroySets destroys our sets, and returns those that rules still refer to.
func (f ipFamily) destroySets(ctx context.Context) (kept []string, err error) {
	names, err := f.listSets(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, err := command.Run(ctx, nil, "ipset", "destroy", name); err != nil && !isNotFound(err) {
			kept = append(kept, name)
		}
	}
	return kept, nil
}

// Read implements Kernel.
func (t IPTables) Read(ctx context.Context) (string, error) {
	var out []string
	for _, f := range ipFamilies {
		text, err := t.saveTable(ctx, f)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(text) {
			if slices.ContainsFunc(chains, func(chain string) bool { return strings.Contains(line, chain) }) {
				out = append(out, strings.TrimSpace(line))
			}
		}
		names, err := f.listSets(ctx)
		if err != nil {
			return "", err
		}
		for _, name := range names {
			if !strings.Contains(text, name) {
				continue // of the generation before
			}
			members, err := command.Run(ctx, nil, "ipset", "save", name)
			if err != nil && !isNotFound(err) {
				return "", err
			}
			out = append(out, sortedWords(members))
		}
	}
	return strings.Join(out, "\n"), nil
}

// Whole implements Kernel.
func (IPTables) Whole(text string, i Interfaces) bool {
	return mentionsAll(text, len(ipFamilies), "-j "+sourcesChain, "-j "+linkChain, "--invert", foreignChain+" -j DROP") &&
		mentionsAll(text, 1, "-g "+localChain) && (len(i.All()) == 0 || mentionsAll(text, len(ipFamilies), "-g "+foreignChain)) && containsAllNames(text, i.All())
}

func (t IPTables) saveTable(ctx context.Context, f ipFamily) (string, error) {
	return command.Run(ctx, nil, f.command+"-"+t.Mode+"-save", "-t", "raw")
}

// Cleanup implements Kernel.
func (t IPTables) Cleanup(ctx context.Context) error {
	var errs []error
	for _, f := range ipFamilies {
		errs = append(errs, t.cleanFamily(ctx, f))
	}
	return errors.Join(errs...)
}

func (t IPTables) cleanFamily(ctx context.Context, f ipFamily) error {
	// All tables are read, because reading one that nobody uses makes it.
	text, err := command.Run(ctx, nil, f.command+"-"+t.Mode+"-save")
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var rules []string
	for line := range strings.Lines(text) {
		rule, ok := strings.CutPrefix(strings.TrimSpace(line), "-A PREROUTING ")
		if ok && slices.ContainsFunc(chains, func(chain string) bool { return strings.HasSuffix(rule, "-j "+chain) }) {
			rules = append(rules, "-D PREROUTING "+rule)
		}
	}
	ours := slices.DeleteFunc(slices.Clone(chains), func(chain string) bool { return !strings.Contains(text, ":"+chain+" ") })
	for _, verb := range []string{"-F ", "-X "} {
		for _, chain := range ours {
			rules = append(rules, verb+chain)
		}
	}
	if len(rules) > 0 {
		lines := slices.Concat([]string{"*raw"}, rules, []string{"COMMIT"})
		if _, err := command.Run(ctx, lines, f.command+"-"+t.Mode+"-restore", "--noflush", "-w", command.LockWait); err != nil {
			return err
		}
	}
	_, err = f.destroySets(ctx) // but for those that the other mode's rules refer to
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	return err
}

// isNotFound reports whether a tool failed because it, or the object of the command, does not exist.
func isNotFound(err error) bool {
	if errors.Is(err, exec.ErrNotFound) {
		return true
	}
	return err != nil && slices.ContainsFunc([]string{"No such file or directory", "does not exist"}, func(s string) bool { return strings.Contains(err.Error(), s) })
}
