package spoof

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/tool"
)

// IPTables guards with iptables and ipset, in the table raw, which comes before connection tracking.
type IPTables struct {
	// Mode is nft or legacy.
	Mode string
	// Log is for what is dropped.
	Log Log
}

const (
	sourcesChain = "TIERWALL-SOURCES"
	foreignChain = "TIERWALL-FOREIGN"
	// hookRule is the only rule that other packets meet.
	hookRule = "PREROUTING -m rpfilter --invert -j " + sourcesChain
	// maxInterfaces is how many interfaces a set can have with one network (ipset(8), hash:net,iface).
	maxInterfaces = 64
)

// ipFamily is an IP family as the tools call it.
type ipFamily struct {
	command, inet, any string
	// sets is what the names of our sets begin with.
	sets string
	// passes are sources that no route leads back to: neighbours are found by such.
	passes []string
}

var ipFamilies = []ipFamily{
	{command: "iptables", inet: "inet", sets: "tws4", any: "0.0.0.0/0"},
	{command: "ip6tables", inet: "inet6", sets: "tws6", any: "::/0", passes: []string{"-s fe80::/10 -j RETURN", "-s ::/128 -p ipv6-icmp -j RETURN"}},
}

// set is the name of the n-th set of a generation, which is a or b.
func (f ipFamily) set(generation string, n int) string {
	return fmt.Sprintf("%s%s%d", f.sets, generation, n)
}

// setLines are what ipset reads to make a generation of sets.
func (f ipFamily) setLines(generation string, interfaces []string) []string {
	var out []string
	n := 0
	for chunk := range slices.Chunk(interfaces, maxInterfaces) {
		name := f.set(generation, n)
		out = append(out, "create "+name+" hash:net,iface family "+f.inet, "flush "+name)
		for _, i := range chunk {
			out = append(out, "add "+name+" "+f.any+","+i)
		}
		n++
	}
	return out
}

// chainLines are what iptables-restore reads: our chains, which refer to a generation of
// sets, and the rule that leads there if that is missing.
func (f ipFamily) chainLines(generation string, interfaces int, log Log, hooked bool) []string {
	out := []string{"*raw", ":" + sourcesChain + " - [0:0]", ":" + foreignChain + " - [0:0]"}
	for _, rule := range f.passes {
		out = append(out, "-A "+sourcesChain+" "+rule)
	}
	for n := range (interfaces + maxInterfaces - 1) / maxInterfaces {
		out = append(out, "-A "+sourcesChain+" -m set --match-set "+f.set(generation, n)+" src,src -g "+foreignChain)
	}
	if log.PerSecond > 0 {
		out = append(out, "-A "+foreignChain+" "+log.iptables())
	}
	out = append(out, "-A "+foreignChain+" -j DROP")
	if !hooked {
		out = append(out, "-I "+strings.Replace(hookRule, "PREROUTING", "PREROUTING 1", 1))
	}
	return append(out, "COMMIT")
}

// Write is Kernel's. Each IP family switches at one moment from a generation of sets to the other.
func (t IPTables) Write(ctx context.Context, interfaces []string) error {
	for _, f := range ipFamilies {
		kept, err := f.destroySets(ctx)
		if err != nil {
			return err
		}
		generation := "a"
		if slices.ContainsFunc(kept, func(name string) bool { return strings.HasPrefix(name, f.sets+"a") }) {
			generation = "b"
		}
		if lines := f.setLines(generation, interfaces); len(lines) > 0 {
			if _, err := tool.Run(ctx, lines, "ipset", "restore", "-exist"); err != nil {
				return err
			}
		}
		lines := f.chainLines(generation, len(interfaces), t.Log, t.hooked(ctx, f))
		if _, err := tool.Run(ctx, lines, f.command+"-"+t.Mode+"-restore", "--noflush", "-w", tool.LockWait); err != nil {
			return err
		}
	}
	return nil
}

// hooked says whether the rule is there that leads to our chains.
func (t IPTables) hooked(ctx context.Context, f ipFamily) bool {
	args := append([]string{"-w", tool.LockWait, "-t", "raw", "-C"}, strings.Fields(hookRule)...)
	_, err := tool.Run(ctx, nil, f.command+"-"+t.Mode, args...)
	return err == nil
}

// ours are the names of our sets that there are.
func (f ipFamily) ours(ctx context.Context) ([]string, error) {
	text, err := tool.Run(ctx, nil, "ipset", "list", "-n")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(strings.Fields(text), func(name string) bool { return !strings.HasPrefix(name, f.sets) }), nil
}

// destroySets destroys our sets and gives those that rules still refer to.
func (f ipFamily) destroySets(ctx context.Context) (kept []string, err error) {
	names, err := f.ours(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, err := tool.Run(ctx, nil, "ipset", "destroy", name); err != nil && !missing(err) {
			kept = append(kept, name)
		}
	}
	return kept, nil
}

// Read is Kernel's.
func (t IPTables) Read(ctx context.Context) (string, error) {
	var out []string
	for _, f := range ipFamilies {
		text, err := t.save(ctx, f)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(text) {
			if strings.Contains(line, sourcesChain) || strings.Contains(line, foreignChain) {
				out = append(out, strings.TrimSpace(line))
			}
		}
		names, err := f.ours(ctx)
		if err != nil {
			return "", err
		}
		for _, name := range names {
			if !strings.Contains(text, name) {
				continue // of the generation before
			}
			members, err := tool.Run(ctx, nil, "ipset", "save", name)
			if err != nil && !missing(err) {
				return "", err
			}
			out = append(out, words(members))
		}
	}
	return strings.Join(out, "\n"), nil
}

// Whole is Kernel's.
func (IPTables) Whole(text string, interfaces []string) bool {
	return mentions(text, len(ipFamilies), "-j "+sourcesChain, "--invert", foreignChain+" -j DROP") &&
		(len(interfaces) == 0 || mentions(text, len(ipFamilies), "-g "+foreignChain)) && names(text, interfaces)
}

func (t IPTables) save(ctx context.Context, f ipFamily) (string, error) {
	return tool.Run(ctx, nil, f.command+"-"+t.Mode+"-save", "-t", "raw")
}

// Cleanup is Kernel's.
func (t IPTables) Cleanup(ctx context.Context) error {
	var errs []error
	for _, f := range ipFamilies {
		errs = append(errs, t.clean(ctx, f))
	}
	return errors.Join(errs...)
}

func (t IPTables) clean(ctx context.Context, f ipFamily) error {
	// All tables are read, because reading one that nobody uses makes it.
	text, err := tool.Run(ctx, nil, f.command+"-"+t.Mode+"-save")
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var rules []string
	for line := range strings.Lines(text) {
		if rule, ok := strings.CutPrefix(strings.TrimSpace(line), "-A PREROUTING "); ok && strings.HasSuffix(rule, "-j "+sourcesChain) {
			rules = append(rules, "-D PREROUTING "+rule)
		}
	}
	if strings.Contains(text, ":"+sourcesChain+" ") {
		rules = append(rules, "-F "+sourcesChain, "-X "+sourcesChain)
	}
	if strings.Contains(text, ":"+foreignChain+" ") {
		rules = append(rules, "-F "+foreignChain, "-X "+foreignChain)
	}
	if len(rules) > 0 {
		lines := slices.Concat([]string{"*raw"}, rules, []string{"COMMIT"})
		if _, err := tool.Run(ctx, lines, f.command+"-"+t.Mode+"-restore", "--noflush", "-w", tool.LockWait); err != nil {
			return err
		}
	}
	_, err = f.destroySets(ctx) // but for those that the other mode's rules refer to
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	return err
}

// missing says whether a tool failed because what it was asked about is not there, or itself is not.
func missing(err error) bool {
	if errors.Is(err, exec.ErrNotFound) {
		return true
	}
	return err != nil && slices.ContainsFunc([]string{"No such file or directory", "does not exist"}, func(s string) bool { return strings.Contains(err.Error(), s) })
}

// same says whether both are the same kernel's.
func same(a, b Kernel) bool {
	switch a := a.(type) {
	case NFTables:
		_, ok := b.(NFTables)
		return ok
	case IPTables:
		t, ok := b.(IPTables)
		return ok && t.Mode == a.Mode
	}
	return false
}
