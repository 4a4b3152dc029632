//go:build netns

package nftables

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/netns"
)

// node is the kernel of a node.
type node struct{ backendtest.Node[*Backend] }

// nodeOn is a node in a namespace, whose backends log denials.
func nodeOn(t testing.TB, s *netns.Space, log ruletext.DenyLog) node {
	return node{backendtest.Node[*Backend]{Space: s, T: t, New: func() (*Backend, error) {
		return New(t.Context(), Options{DenyLog: log, Log: slog.New(quiet{t})})
	}}}
}

// newNode is a node with a table of others.
func newNode(t testing.TB) node { return newLoggingNode(t, ruletext.DenyLog{}) }

func newLoggingNode(t testing.TB, log ruletext.DenyLog) node {
	t.Helper()
	n := nodeOn(t, netns.NewSpace(t), log)
	n.nft("add table inet others", "add chain inet others forward { type filter hook forward priority 0; }",
		"add rule inet others forward meta mark 0x4000 accept", "add set inet others tierwall { type ipv4_addr; }")
	return n
}

func (n node) nft(commands ...string) string {
	n.T.Helper()
	out, err := n.Try(n.T.Context(), strings.Join(commands, "\n")+"\n", "nft", "-f", "-")
	if err != nil {
		n.T.Fatal(err)
	}
	return out
}

func (n node) dump() string { n.T.Helper(); return n.Run(n.T, "nft", "list", "ruleset") }

// contents is what our table holds, without generations, and without the slots of a backend.
func (n node) contents(of ...*Backend) string {
	n.T.Helper()
	out, err := n.Try(n.T.Context(), "", "nft", "list", "table", "inet", tableName)
	if err != nil {
		n.T.Fatal(err)
	}
	for _, b := range of {
		out = undo(b.state.slots, out)
	}
	return canonicalTable(out)
}

// contentsIfAny is what our table holds, without generations, and nothing if there is no table.
func (n node) contentsIfAny() string {
	out, err := n.Try(n.T.Context(), "", "nft", "list", "table", "inet", tableName)
	if err != nil {
		return ""
	}
	return canonicalTable(out)
}

var elementList = regexp.MustCompile(`(?s)elements = \{.*?\}\n`)

// canonicalTable is a printed table with its objects, and the elements of each set, in one order.
func canonicalTable(text string) string {
	text = strings.TrimSuffix(strings.TrimPrefix(text, "table inet tierwall {\n"), "}\n")
	text = generationInName.ReplaceAllString(text, "$1")
	text = elementList.ReplaceAllStringFunc(text, func(list string) string {
		elements := strings.Split(strings.Trim(strings.TrimSpace(strings.TrimPrefix(list, "elements = ")), "{}"), ",")
		for i, e := range elements {
			elements[i] = strings.Join(strings.Fields(e), " ")
		}
		slices.Sort(elements)
		return strings.Join(elements, "\n")
	})
	objects := strings.Split(strings.Trim(text, "\n"), "\n\n")
	slices.Sort(objects)
	return strings.Join(objects, "\n\n")
}

func TestNftAcceptsTheGoldenFiles(t *testing.T) {
	n := newNode(t)
	for name := range goldens() {
		path := filepath.Join("testdata", name+".nft")
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"--check", "-f", path}, {"-f", path}} {
			if out, err := n.Try(t.Context(), "", "nft", args...); err != nil || out != "" {
				t.Errorf("%v: %v %s", args, err, out)
			}
		}
		n.nft("delete table inet tierwall")
	}
}

func TestNftablesIsAvailable(t *testing.T) {
	n := newNode(t)
	n.Must(func() error { return Available(t.Context()) })
	if strings.Contains(n.dump(), "table inet tierwall") {
		t.Error("looking made a table")
	}
	t.Setenv("PATH", t.TempDir())
	if err := n.Do(func() error { return Available(t.Context()) }); err == nil || !strings.Contains(err.Error(), "nft") {
		t.Errorf("without nft: %v", err)
	}
}

// programs are programs of one node of random clusters.
func programs(n uint64) []*policy.Program {
	var out []*policy.Program
	for seed := range n {
		p, _ := compile.Compile(generate.Cluster(generate.NewRand(seed), generate.Crowded), "node-0")
		out = append(out, p)
	}
	return append(out, many(12, 3), many(100, 30), sample.Crowd(60), sample.Edges(), sample.Excepted())
}

func TestTheKernelDependsOnTheLastProgramAlone(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	var last *policy.Program
	for i, p := range programs(12) {
		if last != nil && i%2 == 0 && slices.Equal(familiesOf(last), familiesOf(p)) && i < 12 {
			n.Update(b, transition.ChangeBetween(last, p))
		} else {
			n.Apply(b, p)
		}
		last = p
		n.Repair(b) // deletes what is left
		b.generation++
		if n.Repair(b) {
			t.Fatalf("program %d: the kernel is not as written", i)
		}
		fresh := newNode(t)
		fresh.Apply(fresh.Open(), p)
		if got, want := n.contents(b), fresh.contents(); got != want {
			t.Fatalf("program %d: got\n%s\nwant\n%s", i, got, want)
		}
	}
}

func TestARestartAdoptsWhatIsThere(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	if b.Programmed() {
		t.Error("programmed before the first program")
	}
	n.Apply(b, many(30, 20))
	before := n.contents()
	again := n.Open()
	if !again.Programmed() {
		t.Error("what is in force is not recognized")
	}
	n.Must(func() error {
		again.mu.Lock()
		defer again.mu.Unlock()
		again.program = many(30, 20)
		amiss, err := again.applyWhole(t.Context())
		if amiss || len(again.state.names) > 0 {
			t.Errorf("the same program was written anew: %v", again.state.names)
		}
		return err
	})
	if after := n.contents(); after != before {
		t.Errorf("the restart changed\n%s\nto\n%s", before, after)
	}
	n.Apply(n.Open(), sample.Shop())
	fresh := newNode(t)
	fresh.Apply(fresh.Open(), sample.Shop())
	if got, want := n.contents(b), fresh.contents(); got != want {
		t.Errorf("after another program: got\n%s\nwant\n%s", got, want)
	}
}

func TestCleanupLeavesNothingOfOurs(t *testing.T) {
	n := newNode(t)
	backendtest.VerifyCleanup(t, n.Node, n.dump, func(dump string) bool { return strings.Contains(dump, "table inet tierwall") })
}

func TestRepairMendsWhatOthersDo(t *testing.T) {
	for name, damage := range map[string]string{
		"everything flushed":               "flush ruleset",
		"our table deleted":                "delete table inet tierwall",
		"all rules flushed":                "flush table inet tierwall",
		"our table switched off":           "add table inet tierwall { flags dormant; }",
		"a rule in our base chain":         "insert rule inet tierwall forward accept",
		"a rule in a class":                "insert rule inet tierwall in4-data return",
		"a chain emptied":                  "flush chain inet tierwall in4-data",
		"a base chain that drops":          "add chain inet tierwall forward { type filter hook forward priority 0; policy drop; }",
		"a base chain deleted":             "flush chain inet tierwall input\ndelete chain inet tierwall input",
		"a base chain elsewhere":           "flush chain inet tierwall input\ndelete chain inet tierwall input\nadd chain inet tierwall input { type filter hook input priority 10; }",
		"a chain too many":                 "add chain inet tierwall extra",
		"a chain too many that is in use":  "add chain inet tierwall extra\nadd rule inet tierwall input jump extra",
		"a set too many":                   "add set inet tierwall extra { type ipv4_addr; }",
		"a member too many":                "add element inet tierwall set4-front { 203.0.113.1 }",
		"a member deleted":                 "delete element inet tierwall set4-front { 10.1.0.2 }",
		"a set emptied":                    "flush set inet tierwall set4-world",
		"a pod's class deleted":            "delete element inet tierwall ingress-map-4 { 10.1.0.4 }",
		"a pod's class changed":            "delete element inet tierwall ingress-map-4 { 10.1.0.4 }\nadd element inet tierwall ingress-map-4 { 10.1.0.4 : return }",
		"a pod that is none":               "add element inet tierwall egress-map-4 { 10.1.0.77 : return }",
		"a set of a run that is no more":   "add set inet tierwall in4-back-run0-peers { type ipv4_addr; }",
		"a set of the name of a new one's": "add set inet tierwall set4-front.1 { type ipv4_addr; timeout 10s; }",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			backendtest.VerifyRepair(t, n.Node, n.contentsIfAny, func() { n.nft(damage) })
		})
	}
}

func TestAReplacedRuleIsFound(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	n.Apply(b, sample.Shop())
	n.Repair(b)
	before := n.contents()
	out := n.Run(t, "nft", "-a", "list", "chain", "inet", tableName, "in4-front")
	handle := regexp.MustCompile(`drop comment .* # handle (\d+)`).FindStringSubmatch(out)
	if handle == nil {
		t.Fatal(out)
	}
	n.nft(fmt.Sprintf(`replace rule inet tierwall in4-front handle %s return comment "NetworkPolicy prod/frontend /spec/ingress"`, handle[1]))
	if !n.Repair(b) {
		t.Error("the damage was not reported")
	}
	if after := n.contents(); after != before {
		t.Errorf("before\n%s\nmended\n%s", before, after)
	}
}

func TestNothingIsReadWhileNobodyWrites(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	n.Apply(b, sample.Shop())
	n.Repair(b)
	t.Setenv("PATH", t.TempDir())
	if n.Repair(b) {
		t.Error("there was nothing to mend")
	}
}

func TestOthersThatWriteAreNoDamage(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	for i, p := range []*policy.Program{sample.Shop(), many(20, 5), sample.Shop()} {
		n.nft(fmt.Sprintf("add element inet others tierwall { 10.9.9.%d }", i))
		n.Apply(b, p)
		n.nft(fmt.Sprintf("add element inet others tierwall { 10.9.8.%d }", i))
		if n.Repair(b) {
			t.Errorf("program %d: what others do to their own is taken for damage", i)
		}
	}
}

// An update that finds the table gone or changed makes it anew at once.
func TestAnUpdateThatFindsNothingMakesItAnew(t *testing.T) {
	for name, damage := range map[string]string{
		"the table": "delete table inet tierwall", "the ruleset": "flush ruleset",
		"the member that goes":               "delete element inet tierwall set4-back { 10.2.0.3 }",
		"a pod's entry, which was not there": "add element inet tierwall ingress-map-4 { 10.1.0.9 : accept }",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			b := n.Open()
			p := sample.Shop()
			n.Apply(b, p)
			b.log = slog.New(slog.DiscardHandler) // which would say so
			n.nft(damage)
			gone := policy.AddressElement(address("10.2.0.3"))
			c := &policy.Change{Members: []policy.SetChange{{ID: "back", Removed: []policy.Element{gone}}}}
			if name == "a pod's entry, which was not there" {
				c = &policy.Change{Endpoints: []policy.Endpoint{{Namespace: "prod", Name: "new", Addrs: []netip.Addr{address("10.1.0.9")}}}}
			}
			n.Update(b, c)
			fresh := newNode(t)
			fresh.Apply(fresh.Open(), p.With(c))
			if got, want := n.contents(b), fresh.contents(); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestAFailureIsExplainedAndTheNextCallGoesOn(t *testing.T) {
	n := newNode(t)
	b := n.Open()
	n.Apply(b, sample.Shop())
	before := n.contents()
	real := b.kernel
	broken := &fakeKernel{fail: fmt.Errorf("cannot allocate memory")}
	broken.Fake = newFakeKernel().Fake
	b.kernel = broken
	c := &policy.Change{Members: []policy.SetChange{{ID: "front", Added: []policy.Element{{Prefix: netip.MustParsePrefix("10.3.0.1/32")}}}}}
	if err := n.Do(func() error { return b.Update(t.Context(), c) }); err == nil || !strings.Contains(err.Error(), "cannot allocate memory") {
		t.Errorf("the failure is not explained: %v", err)
	}
	b.kernel = real
	if n.contents() != before {
		t.Error("what was in force did not stay")
	}
	n.Update(b, &policy.Change{})
	fresh := newNode(t)
	fresh.Apply(fresh.Open(), sample.Shop().With(c))
	if got, want := n.contents(b), fresh.contents(); got != want {
		t.Errorf("the change that failed was forgotten: got\n%s\nwant\n%s", got, want)
	}
}
