package iptables

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"

	"github.com/tierwall/tierwall/enforcer/command"
	"github.com/tierwall/tierwall/enforcer/refusal"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// table is the filter table of one IP family in one mode.
type table struct {
	family Family
	// The names of its tools, such as ip6tables-nft and ip6tables-nft-save.
	tool, save, restore string
	log                 ruletext.DenyLog
	// refused are the classes to close, failed those that are closed.
	refused, failed refusal.Classes
	// state is what the kernel holds, while that is known.
	state state
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

// holdsOurs reports whether chains of ours are in the table. Unlike read it
// does not make the kernel set up a table that nobody uses.
func (t *table) holdsOurs(ctx context.Context) (bool, error) {
	text, err := command.Run(ctx, nil, t.save)
	if err != nil {
		return false, fmt.Errorf("reading the %s tables: %w", t.family, err)
	}
	return strings.Contains(text, "\n:"+chainPrefix), nil
}

// readTable reads our chains and the jumps to them from the kernel.
func (t *table) readTable(ctx context.Context) (reading, error) {
	text, err := command.Run(ctx, nil, t.save, "-t", "filter")
	if err != nil {
		return reading{}, fmt.Errorf("reading the %s filter table: %w", t.family, err)
	}
	return parseSave(text), nil
}

// planWhole plans how to bring the kernel from what it has to a program. Sets that are as rendered are kept. Others
// change in place if they are known to be of this program, and are replaced by shadow copies otherwise. The state
// becomes what the plan leads to.
func (t *table) planWhole(p *policy.Program, have reading, slots transition.Slots, known bool) plan {
	n := newNames()
	if known {
		n.chains = t.state.names.chains
	}
	v := newRenderer(p, t.family, n, slots, t.log, t.refused).render()
	rules := map[string][]string{}
	inForce := map[string]string{}
	if known {
		rules, inForce = t.state.matchingChains(have), t.state.names.sets.known
	}
	if t.renameSets(n, v, have.sets, inForce) {
		v = newRenderer(p, t.family, n, slots, t.log, t.refused).render()
	}
	out := makePlan(have, rules, v.toRuleset(t.family))
	for _, name := range out.destroy {
		n.taken[name] = true
	}
	prints := map[string][]string{}
	for name := range rules {
		prints[name] = have.prints[name]
	}
	t.state = stateOf(v, n)
	maps.Copy(t.state.prints, prints)
	t.failed = v.failed
	return out
}

// renameSets gives sets the names that they shall have beside those that are there: the one that they have in force, if
// they may change there; else that of one that is as it is wanted, or one that nothing has. A list, which
// never changes, gets its name once its sets have theirs.
func (t *table) renameSets(n names, v rendering, there map[string]Set, inForce map[string]string) (renamed bool) {
	before := maps.Clone(n.sets.known)
	clear(n.sets.known)
	clear(n.sets.given)
	var sets, lists []string
	for _, base := range slices.Sorted(maps.Keys(v.sets)) {
		if v.sets[base].isList() {
			lists = append(lists, base)
			continue
		}
		if name, found := inForce[base]; found && there[name].Type == v.sets[base].Type {
			n.sets.assignName(base, name)
			continue
		}
		sets = append(sets, base)
	}
	for _, base := range sets {
		n.sets.assignName(base, n.firstFit(base, v.sets[base], there))
	}
	t.renameLists(n, v, lists, there, inForce)
	return !maps.Equal(before, n.sets.known)
}

// renameLists is rename for lists of sets.
func (t *table) renameLists(n names, v rendering, lists []string, there map[string]Set, inForce map[string]string) {
	var others []string
	for _, base := range lists {
		s := v.sets[base]
		s.Lists = listMembers(n, t.family, v.lists[base])
		v.sets[base] = s
		if name, found := inForce[base]; found && there[name].sameAs(s) {
			n.sets.assignName(base, name)
			continue
		}
		others = append(others, base)
	}
	for _, base := range others {
		n.sets.assignName(base, n.firstFit(base, v.sets[base], there))
	}
}

// firstFit is the first name for a set that no other set has.
func (n names) firstFit(base string, s Set, there map[string]Set) string {
	for i := 0; ; i++ {
		name := generationName(base, i)
		if old, taken := there[name]; n.sets.isFree(name) && (!taken || old.sameAs(s)) {
			return name
		}
	}
}

// startCommit begins to write chains and jumps, all at one moment. Where there is nothing to
// write no tool is run, and nil given.
func (t *table) startCommit(ctx context.Context, lines []string) *command.Running {
	if len(lines) == 0 {
		return nil
	}
	return command.Start(ctx, lines, t.restore, "--noflush", "-w", command.LockWait)
}

func (t *table) waitCommit(c *command.Running) error {
	if c == nil {
		return nil
	}
	if _, err := c.Wait(); err != nil {
		return fmt.Errorf("writing the %s chains: %w", t.family, err)
	}
	return nil
}

// destroyUnused destroys the sets that no rule refers to any more. Those that are in use still are
// left for the next time.
func (t *table) destroyUnused() error {
	going := slices.Sorted(maps.Keys(t.state.names.taken))
	left, err := destroySets(going)
	for _, name := range going {
		if !slices.Contains(left, name) {
			delete(t.state.names.taken, name)
			delete(t.state.sizes, name)
		}
	}
	return err
}

// planRepair plans what makes the chains and jumps what they should be, as far as is known how they
// print; others are written anew.
func (t *table) planRepair(have reading) plan {
	right := t.state.matchingChains(have)
	want := Ruleset{Family: t.family}
	for _, name := range slices.Sorted(maps.Keys(t.state.rules)) {
		want.Chains = append(want.Chains, Chain{Name: name, Rules: t.state.rules[name]})
	}
	have.sets = nil
	return makePlan(have, right, want)
}

// removeAll removes our jumps and chains, if there are any.
func (t *table) removeAll(ctx context.Context) error {
	if ours, err := t.holdsOurs(ctx); err != nil || !ours {
		return err
	}
	have, err := t.readTable(ctx)
	if err != nil {
		return err
	}
	for hook, base := range hooks {
		for have.hasJump(hook) {
			rule := jumpTo(base)
			if have.ofAll[hook] > 0 {
				rule = jumpOfAll(base)
			}
			args := append([]string{"-w", command.LockWait, "-D", hook}, strings.Fields(rule)...)
			if _, err := command.Run(ctx, nil, t.tool, args...); err != nil {
				return fmt.Errorf("deleting the %s jump from %s: %w", t.family, hook, err)
			}
			if have, err = t.readTable(ctx); err != nil {
				return err
			}
		}
	}
	return t.waitCommit(t.startCommit(ctx, makePlan(have, nil, Ruleset{}).chains))
}
