package ipt

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"

	"github.com/tierwall/tierwall/policy"
)

// table is the filter table of one IP family in one mode.
type table struct {
	family Family
	// The names of its tools, such as ip6tables-nft and ip6tables-nft-save.
	tool, save, restore string
	log                 DenyLog
	// state is what the kernel holds, current what the last writing that succeeded
	// brought about; it is empty while that is not known.
	state   state
	current Ruleset
}

// openTable finds the tools of a family and a mode. Whatever touches the kernel is
// run by this package, because go-iptables gives its runs no deadline.
func openTable(f Family, m Mode) (*table, error) {
	name, protocol := "iptables-"+m.String(), iptables.ProtocolIPv4
	if f == IPv6 {
		name, protocol = "ip6tables-"+m.String(), iptables.ProtocolIPv6
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", name, err)
	}
	if _, err := iptables.New(iptables.IPFamily(protocol), iptables.Path(path)); err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	return &table{family: f, tool: name, save: name + "-save", restore: name + "-restore"}, nil
}

// holdsOurs says whether chains of ours are in the table. Unlike readChains it
// does not make the kernel set up a table that nobody uses.
func (t *table) holdsOurs(ctx context.Context) (bool, error) {
	text, err := run(ctx, t.save)
	if err != nil {
		return false, fmt.Errorf("reading the %s tables: %w", t.family, err)
	}
	return strings.Contains(text, "\n:"+chainPrefix), nil
}

// readChains reads our chains and the jumps to them from the kernel.
func (t *table) readChains(ctx context.Context) error {
	text, err := run(ctx, t.save, "-t", "filter")
	if err != nil {
		return fmt.Errorf("reading the %s filter table: %w", t.family, err)
	}
	t.state = parseSave(text)
	return nil
}

// programmed says whether both jumps are there and lead somewhere.
func (t *table) programmed() bool {
	for hook, base := range hooks {
		if t.state.jumps[hook] == missing || len(t.state.prints[base]) == 0 {
			return false
		}
	}
	return true
}

// want is the ruleset of a program under the names that its sets shall have.
func (t *table) want(p *policy.Program, gradual bool) (Ruleset, error) {
	r, err := Render(p, t.family, DefaultSetNames(t.family), t.log)
	if err != nil {
		return Ruleset{}, err
	}
	names := nameSets(r, t.state, t.current, gradual)
	if !slices.ContainsFunc(r.Sets, func(s Set) bool { return names(s.ID) != s.Name }) {
		return r, nil
	}
	return Render(p, t.family, names, t.log)
}

// commit writes chains and jumps, all at one moment. Where there is nothing to
// write no tool is run.
func (t *table) commit(ctx context.Context, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	if _, err := feed(ctx, lines, t.restore, "--noflush", "-w", lockWait); err != nil {
		return fmt.Errorf("writing the %s chains: %w", t.family, err)
	}
	return nil
}

// done records that the kernel now is as wanted, but for sets that could not be destroyed.
func (t *table) done(want Ruleset, undestroyed []string) {
	next := state{rules: map[string][]string{}, prints: map[string][]string{}, jumps: map[string]jump{}, sets: map[string]Set{}}
	for _, c := range want.Chains {
		next.rules[c.Name] = c.Rules
		if print, ok := t.state.prints[c.Name]; ok && slices.Equal(t.state.rules[c.Name], c.Rules) {
			next.prints[c.Name] = print
		}
	}
	for hook := range hooks {
		next.jumps[hook] = first
	}
	for _, s := range want.Sets {
		next.sets[s.Name] = s
	}
	for _, name := range undestroyed {
		if s, ours := t.state.sets[name]; ours {
			next.sets[name] = s
		}
	}
	t.state, t.current = next, want
}

// clean removes our jumps and chains, if there are any.
func (t *table) clean(ctx context.Context) error {
	if ours, err := t.holdsOurs(ctx); err != nil || !ours {
		return err
	}
	if err := t.readChains(ctx); err != nil {
		return err
	}
	for hook, base := range hooks {
		for t.state.jumps[hook] != missing {
			if _, err := run(ctx, t.tool, "-w", lockWait, "-D", hook, "-j", base); err != nil {
				return fmt.Errorf("deleting the %s jump from %s: %w", t.family, hook, err)
			}
			if err := t.readChains(ctx); err != nil {
				return err
			}
		}
	}
	return t.commit(ctx, makePlan(t.state, Ruleset{}).chains)
}
