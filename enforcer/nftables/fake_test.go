package nftables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/knftables"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
	"github.com/tierwall/tierwall/enforcer/nftables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// fakeKernel is knftables' fake, which checks references, and the interpreter, which
// checks everything else and judges packets.
type fakeKernel struct {
	*knftables.Fake
	held       *simulator.Table
	generation uint32
	// scripts are the transactions so far.
	scripts []string
	// watch sees the table before and after each transaction.
	watch func(before, after *simulator.Table, script string)
	// fail is what the next transaction fails with.
	fail error
	// refuse is the beginning of chains' names whose rules no transaction may have.
	refuse string
	// settled is how often packets were waited for.
	settled int
	// byTool is how many transactions could not be given to the kernel itself.
	byTool int
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{Fake: knftables.NewFake(knftables.InetFamily, tableName), held: simulator.New()}
}

func (k *fakeKernel) Run(ctx context.Context, t *transaction, known uint32) (uint32, bool, error) {
	alone := known == k.generation
	if err := k.run(ctx, t); err != nil {
		return 0, false, err
	}
	k.generation++
	return k.generation, alone, nil
}

func (k *fakeKernel) run(ctx context.Context, t *transaction) error {
	if err := k.fail; err != nil {
		k.fail = nil
		return err
	}
	for _, c := range t.commands {
		if r, is := c.(ruleCommand); is && k.refuse != "" && strings.HasPrefix(r.chain, k.refuse) {
			if !t.direct {
				return errors.New("/dev/stdin:1:1-9: Error: Could not process rule: Too many links\nadd rule inet tierwall " + r.chain + " drop\n^^^")
			}
			return &nfnetlink.Refusal{About: "chain " + r.chain, Err: unix.EMLINK}
		}
	}
	if _, ok := t.encodeBatch(); t.direct && !ok {
		k.byTool++
	}
	tx := t.writeAll(k.NewTransaction())
	if err := k.Fake.Run(ctx, tx); err != nil {
		return err
	}
	before := k.held.Clone()
	if err := k.held.Run(tx.String()); err != nil {
		return fmt.Errorf("%w in\n%s", err, tx.String())
	}
	k.scripts = append(k.scripts, tx.String())
	if k.watch != nil {
		k.watch(before, k.held, tx.String())
	}
	return nil
}

func (k *fakeKernel) Settle(context.Context) error {
	k.settled++
	return nil
}

func (k *fakeKernel) Generation() (uint32, error) { return k.generation, nil }

func (k *fakeKernel) List(_ context.Context, want *Ruleset) (listing, error) {
	elements := want != nil
	out := listing{chains: map[string]listedChain{}, sets: map[string]Set{}}
	if k.Table == nil {
		return out, nil
	}
	out.there = true
	for name, c := range k.Table.Chains {
		l := listedChain{}
		if c.Hook != nil {
			l.hook, l.policy = string(*c.Hook), string(*c.Policy)
			l.priority, _ = strconv.Atoi(string(*c.Priority))
		}
		l.rules = rulesOf(c)
		out.chains[name] = l
	}
	for name, s := range k.Table.Sets {
		out.sets[name] = Set{Type: s.Type, Interval: len(s.Flags) > 0, Elements: listed(s.Elements, elements)}
	}
	for name, m := range k.Table.Maps {
		out.sets[name] = Set{Type: strings.TrimSuffix(m.Type, " : verdict"), Map: true, Interval: len(m.Flags) > 0, Elements: listed(m.Elements, elements)}
	}
	return out, nil
}

func (k *fakeKernel) Rules() (map[string][]nfnetlink.Rule, error) {
	out := map[string][]nfnetlink.Rule{}
	for name, c := range k.Table.Chains {
		out[name] = rulesOf(c)
	}
	return out, nil
}

func rulesOf(c *knftables.FakeChain) (out []nfnetlink.Rule) {
	for _, r := range c.Rules {
		out = append(out, nfnetlink.Rule{Content: fmt.Sprint(*r.Handle, r.Rule), Comment: deref(r.Comment)})
	}
	return out
}

func listed(in []*knftables.Element, wanted bool) map[string]Element {
	out := map[string]Element{}
	for _, e := range in {
		if wanted {
			out[strings.Join(e.Key, " . ")] = Element{strings.Join(e.Value, " "), deref(e.Comment)}
		}
	}
	return out
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// script is the transaction that makes a ruleset from nothing.
func script(r Ruleset) string {
	t := &transaction{}
	makePlan(newRuleset(), r).asOneTransaction().writeSwitch(t, garbage{})
	return t.writeAll(knftables.NewFake(knftables.InetFamily, tableName).NewTransaction()).String()
}

// render is a program's ruleset, read back from its text.
func render(t testing.TB, p *policy.Program) *simulator.Table {
	t.Helper()
	return renderLogging(t, p, ruletext.DenyLog{})
}

func renderLogging(t testing.TB, p *policy.Program, log ruletext.DenyLog) *simulator.Table {
	t.Helper()
	r, err := Render(p, log)
	if err != nil {
		t.Fatal(err)
	}
	table := simulator.New()
	if err := table.Run(script(r)); err != nil {
		t.Fatalf("%v\n%s", err, script(r))
	}
	return table
}

// quiet is a log for a Backend that must log nothing: it is the only one who
// writes, so that a transaction that fails was planned wrongly.
type quiet struct{ t testing.TB }

func (quiet) Enabled(context.Context, slog.Level) bool { return true }
func (q quiet) WithAttrs([]slog.Attr) slog.Handler     { return q }
func (q quiet) WithGroup(string) slog.Handler          { return q }
func (q quiet) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	q.t.Errorf("logged: %s", text)
	return nil
}

// backendOn is a Backend as after a restart.
func backendOn(t testing.TB, k kernel) *Backend {
	t.Helper()
	b, err := newBackend(t.Context(), Options{Log: slog.New(quiet{t})}, k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var generationInName = regexp.MustCompile(`((?:set[46]|any[46]|net[46]|ports|in[46]|eg[46]|ingress-map|egress-map)[-\w]*)\.\d+`)

var classInName = regexp.MustCompile(`\b(in|eg)([46])-([-\w]+?)((?:-run\d+-\w+|-part\d+)?(?:\.\d+)?)(?:\s|$)`)

// undo gives the chains and sets of classes the names that they have by themselves.
func undo(s transition.Slots, text string) string {
	names := map[string]string{}
	for k, slot := range s {
		for _, f := range []family{ipv4, ipv6} {
			names[classChain(f, k.Direction, slot, 0)] = classChain(f, k.Direction, k.ID, 0)
		}
	}
	return classInName.ReplaceAllStringFunc(text, func(word string) string {
		m := classInName.FindStringSubmatch(word)
		name := m[1] + m[2] + "-" + m[3]
		if to, ok := names[name]; ok {
			return strings.Replace(word, name, to, 1)
		}
		return word
	})
}

// contents is what the kernel holds, without generations and in one order.
func (k *fakeKernel) contents(s transition.Slots) string {
	var lines []string
	for line := range strings.Lines(undo(s, k.Dump())) {
		lines = append(lines, generationInName.ReplaceAllString(line, "$1"))
	}
	return canonicalLines(lines)
}

// canonicalLines sorts everything but rules, whose order means something.
func canonicalLines(lines []string) string {
	order := map[string]int{}
	for i, line := range lines {
		if words := strings.Fields(line); len(words) > 4 && words[1] == "rule" {
			lines[i] = fmt.Sprintf("rule %s %04d %s", words[4], order[words[4]], line)
			order[words[4]]++
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// usersOf are those of sets before and after a change.
func usersOf(old *policy.Program, c *policy.Change) transition.Users {
	out := transition.UsersOf(old)
	for _, d := range policy.Directions {
		for _, class := range c.Classes[d] {
			out.AddClass(d, class)
		}
	}
	return out
}
