//go:build netns

package iptables_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/netns"
)

// node is the kernel of a node, in one mode.
type node struct {
	backendtest.Node[*iptables.Backend]
	mode iptables.Mode
}

// nodeOn is a node of a mode in a namespace.
func nodeOn(t testing.TB, s *netns.Space, m iptables.Mode) node {
	return node{backendtest.Node[*iptables.Backend]{Space: s, T: t, New: func() (*iptables.Backend, error) {
		return iptables.New(t.Context(), iptables.Options{Mode: m})
	}}, m}
}

var families = []iptables.Family{iptables.IPv4, iptables.IPv6}

// forBothModes runs a test on a node of each mode.
func forBothModes(t *testing.T, test func(t *testing.T, n node)) {
	for _, m := range []iptables.Mode{iptables.NFT, iptables.Legacy} {
		t.Run(m.String(), func(t *testing.T) {
			test(t, newNode(t, m))
		})
	}
}

// newNode is a node with rules and a set of others.
func newNode(t testing.TB, m iptables.Mode) node {
	t.Helper()
	n := nodeOn(t, netns.NewSpace(t), m)
	for _, f := range families {
		n.iptables(f, "-N", "OTHERS")
		n.iptables(f, "-A", "OTHERS", "-j", "ACCEPT")
		n.iptables(f, "-A", "FORWARD", "-m", "mark", "--mark", "0x4000", "-j", "OTHERS")
		n.iptables(f, "-A", "INPUT", "-j", "OTHERS")
	}
	n.Run(t, "ipset", "create", "others", "hash:ip")
	return n
}

// command is the name of a tool of the node's mode, such as ip6tables-nft-save.
func (n node) command(f iptables.Family, suffix string) string {
	name := "iptables-"
	if f == iptables.IPv6 {
		name = "ip6tables-"
	}
	return name + n.mode.String() + suffix
}

func (n node) iptables(f iptables.Family, args ...string) string {
	n.T.Helper()
	return n.Run(n.T, n.command(f, ""), args...)
}

var changing = regexp.MustCompile(`(?m)^#.*\n| \[\d+:\d+\]| initval 0x[0-9a-f]+`)

// dump is everything in the kernel, without what differs from one time to the next.
func (n node) dump() string {
	n.T.Helper()
	var b strings.Builder
	for _, f := range families {
		b.WriteString(n.Run(n.T, n.command(f, "-save")))
	}
	b.WriteString(n.Run(n.T, "ipset", "-sorted", "save"))
	return changing.ReplaceAllString(b.String(), "")
}

func TestTheToolsAcceptTheGoldenFiles(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		for _, name := range []string{"shop", "edges", "empty", "logged", "audited", "merged", "listed"} {
			for _, f := range families {
				sets, rules := read(t, name, f, "sets"), read(t, name, f, "rules")
				for _, c := range []struct {
					input string
					tool  []string
				}{
					{sets, []string{"ipset", "restore", "-exist"}},
					{rules, []string{n.command(f, "-restore"), "--test", "--noflush"}},
					{rules, []string{n.command(f, "-restore"), "--noflush"}},
				} {
					if out, err := n.Try(t.Context(), c.input, c.tool[0], c.tool[1:]...); err != nil || out != "" {
						t.Errorf("%s %s: %v %s", name, f, err, out)
					}
				}
			}
		}
	})
}

func read(t *testing.T, name string, f iptables.Family, kind string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("%s.%s.%s", name, f, kind)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// programs are programs of one node of random clusters.
func programs(n uint64) []*policy.Program {
	var out []*policy.Program
	for seed := range n {
		p, _ := compile.Compile(generate.Cluster(generate.NewRand(seed), generate.Small), "node-0")
		out = append(out, p)
	}
	return out
}

func TestTheKernelDependsOnTheLastProgramAlone(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		b := n.Open()
		for i, p := range programs(12) {
			n.Apply(b, p)
			if n.Repair(b) {
				t.Fatalf("program %d: the kernel is not as written", i)
			}
			got := canonical(n.dump())
			fresh := newNode(t, n.mode)
			fresh.Apply(fresh.Open(), p)
			if want := canonical(fresh.dump()); got != want {
				t.Fatalf("program %d: got\n%s\nwant\n%s", i, got, want)
			}
		}
	})
}

// The incremental compiler says what changes; after each change the kernel is as a whole program makes it.
func TestAChangeLeavesTheKernelAsAWholeProgramWould(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		b, changes := n.Open(), 0
		for seed := range uint64(8) {
			size := generate.Crowded
			start := generate.Cluster(generate.NewRand(seed), size)
			engine := compile.NewEngine("node-0", start.Defaults)
			engine.Commit(start.Update())
			n.Apply(b, engine.Program())
			for _, step := range generate.Steps(generate.NewRand(seed), start, size, 20) {
				c := engine.Commit(step.Update)
				if c.Empty() {
					continue
				}
				changes++
				n.Update(b, c)
				if n.Repair(b) {
					t.Fatalf("seed %d: after %q the kernel is not as the program says", seed, step.What)
				}
			}
		}
		if changes < 20 {
			t.Errorf("%d changes show too little", changes)
		}
	})
}

func TestAChangeMeetsAKernelThatOthersHaveChanged(t *testing.T) {
	one := sample.Shop()
	for name, damage := range map[string]func(n node){
		"all rules flushed": func(n node) { n.iptables(iptables.IPv4, "-F") },
		"a chain that is referred to deleted": func(n node) {
			n.iptables(iptables.IPv4, "-F", "TIERWALL-INGRESS")
			n.iptables(iptables.IPv4, "-F", "TIERWALL-I-data")
			n.iptables(iptables.IPv4, "-F", "TIERWALL-I-dataB")
			n.iptables(iptables.IPv4, "-X", "TIERWALL-I-data")
			n.iptables(iptables.IPv4, "-X", "TIERWALL-I-dataB")
		},
		"a set destroyed": func(n node) {
			n.iptables(iptables.IPv4, "-F")
			n.Run(n.T, "ipset", "destroy", "tw4-front")
		},
		"a set of ours with the name of the next one": func(n node) { n.Run(n.T, "ipset", "create", "tw4-fresh", "hash:net") },
	} {
		t.Run(name, func(t *testing.T) {
			forBothModes(t, func(t *testing.T, n node) {
				b := n.Open()
				n.Apply(b, one)
				damage(n)
				next := sample.Shop()
				next.Sets["front"].Elements = append(next.Sets["front"].Elements, policy.AddressElement(address("10.3.0.1")))
				next.Sets["fresh"] = &policy.Set{ID: "fresh"}
				next.Classes[policy.Ingress]["new"] = &policy.Class{ID: "new", Tiers: []policy.Tier{{Rules: []policy.Rule{{Verdict: policy.Allow, AnyPort: true, Peers: []policy.SetID{"fresh"}}}}}}
				next.Endpoints[1].Class[policy.Ingress] = "new"
				delete(next.Classes[policy.Ingress], "data")
				n.Update(b, transition.ChangeBetween(one, next))
				n.Repair(b)
				fresh := newNode(t, n.mode)
				fresh.Apply(fresh.Open(), next)
				if got, want := ours(canonical(n.dump())), ours(canonical(fresh.dump())); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		})
	}
}

// generations are the ends of the names of sets that were made beside others.
var generations = regexp.MustCompile(`(tw[46]-\w+)\.\d+|hashsize \d+ `)

func canonical(dump string) string { return sortSets(generations.ReplaceAllString(dump, "$1")) }

// sortSets sorts the lines of sets, which ipset prints in any order.
func sortSets(dump string) string {
	var rest, sets []string
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "create ") || strings.HasPrefix(line, "add ") {
			sets = append(sets, line)
		} else {
			rest = append(rest, line)
		}
	}
	return strings.Join(rest, "") + strings.Join(sorted(sets), "")
}

func TestARestartAdoptsWhatIsThere(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		b := n.Open()
		if b.Programmed() {
			t.Error("programmed before the first program")
		}
		n.Apply(b, sample.Shop())
		before := n.dump()
		again := n.Open()
		if !again.Programmed() {
			t.Error("what is in force is not recognized")
		}
		n.Apply(again, sample.Shop())
		if after := n.dump(); after != before {
			t.Errorf("the restart changed\n%s\nto\n%s", before, after)
		}
	})
}

// A jump of everything would have established connections judged: what is found at the start goes, too.
func TestAJumpOfEverythingIsReplaced(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		for _, f := range families {
			n.iptables(f, "-N", "TIERWALL-FORWARD")
			n.iptables(f, "-A", "TIERWALL-FORWARD", "-j", "RETURN")
			n.iptables(f, "-A", "FORWARD", "-j", "TIERWALL-FORWARD")
			n.iptables(f, "-A", "FORWARD", "-j", "TIERWALL-FORWARD")
		}
		n.Apply(n.Open(), sample.Shop())
		for _, f := range families {
			jumps := 0
			for line := range strings.Lines(n.iptables(f, "-S", "FORWARD")) {
				if strings.HasSuffix(strings.TrimSpace(line), "-j TIERWALL-FORWARD") {
					jumps++
				}
			}
			if jumps != 1 {
				t.Errorf("%d jumps in\n%s", jumps, n.iptables(f, "-S", "FORWARD"))
			}
		}
	})
}

func TestCleanupLeavesNothingOfOurs(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		backendtest.VerifyCleanup(t, n.Node, n.dump, func(dump string) bool { return strings.Count(dump, "TIERWALL") >= 20 })
	})
}

func TestRepairMendsWhatOthersDo(t *testing.T) {
	for name, damage := range map[string]func(n node, f iptables.Family){
		"all rules flushed":        func(n node, f iptables.Family) { n.iptables(f, "-F") },
		"a jump deleted":           func(n node, f iptables.Family) { n.iptables(f, "-D", "INPUT", "1") },
		"a jump of everything":     func(n node, f iptables.Family) { n.iptables(f, "-A", "FORWARD", "-j", "TIERWALL-FORWARD") },
		"a rule before the jump":   func(n node, f iptables.Family) { n.iptables(f, "-I", "FORWARD", "-j", "ACCEPT") },
		"a rule in our chain":      func(n node, f iptables.Family) { n.iptables(f, "-I", "TIERWALL-I-data", "-j", "RETURN") },
		"a rule deleted":           func(n node, f iptables.Family) { n.iptables(f, "-D", "TIERWALL-I-data", "1") },
		"a rule changed in place":  func(n node, f iptables.Family) { n.iptables(f, "-R", "TIERWALL-E-none", "1", "-j", "ACCEPT") },
		"a chain of ours too many": func(n node, f iptables.Family) { n.iptables(f, "-N", "TIERWALL-LOST") },
		"a member too many": func(n node, f iptables.Family) {
			n.Run(n.T, "ipset", "add", map[iptables.Family]string{iptables.IPv4: "tw4-front", iptables.IPv6: "tw6-front"}[f],
				map[iptables.Family]string{iptables.IPv4: "203.0.113.1", iptables.IPv6: "2001:db8::1"}[f])
		},
		"a set emptied": func(n node, f iptables.Family) {
			n.Run(n.T, "ipset", "flush", map[iptables.Family]string{iptables.IPv4: "tw4-front", iptables.IPv6: "tw6-front"}[f])
		},
	} {
		t.Run(name, func(t *testing.T) {
			forBothModes(t, func(t *testing.T, n node) {
				backendtest.VerifyRepair(t, n.Node, func() string { return ours(n.dump()) }, func() {
					for _, f := range families {
						damage(n, f)
					}
				})
			})
		})
	}
}

// A set that has as many members as it should is not looked into each time, but now and then.
func TestAReplacedMemberIsFoundInTheEnd(t *testing.T) {
	n := newNode(t, iptables.NFT)
	b := n.Open()
	n.Apply(b, sample.Shop())
	n.Repair(b)
	before := ours(n.dump())
	n.Run(t, "ipset", "del", "tw4-front", "10.1.0.2")
	n.Run(t, "ipset", "add", "tw4-front", "203.0.113.1")
	found := 0
	for range 12 {
		if n.Repair(b) {
			found++
		}
	}
	if after := ours(n.dump()); found != 1 || after != before {
		t.Errorf("found %d times; before\n%s\nafter\n%s", found, before, after)
	}
}

// ours are the lines about our chains and sets, and the first rule of each hook.
func ours(dump string) string {
	var b strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(sortSets(dump)) {
		chain := strings.SplitN(line, " ", 3)
		hook := len(chain) > 1 && (chain[1] == "FORWARD" || chain[1] == "INPUT")
		if strings.HasPrefix(line, "*") {
			clear(seen)
		}
		if strings.Contains(line, "TIERWALL-") || strings.Contains(line, " tw") || hook && !seen[chain[1]] {
			b.WriteString(line)
		}
		if hook {
			seen[chain[1]] = true
		}
	}
	return b.String()
}

func TestAFailureIsExplainedAndTheNextApplyGoesOn(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		b := n.Open()
		n.Apply(b, sample.Shop())
		before := n.dump()
		next := sample.Shop()
		next.Sets["back"].Elements = nil
		n.Run(t, "ipset", "destroy", "others")
		n.iptables(iptables.IPv4, "-N", "BORROWS")
		n.iptables(iptables.IPv4, "-A", "BORROWS", "-j", "TIERWALL-E-named")
		delete(next.Classes[policy.Egress], "named")
		next.Endpoints[2].Class[policy.Egress] = "none"
		err := n.Do(func() error { return b.Apply(t.Context(), next) })
		if err == nil || !strings.Contains(err.Error(), "IPv4 chains") || !strings.Contains(err.Error(), "line ") {
			t.Errorf("the error does not say what failed: %v", err)
		}
		n.iptables(iptables.IPv4, "-F", "BORROWS")
		n.iptables(iptables.IPv4, "-X", "BORROWS")
		n.Run(t, "ipset", "create", "others", "hash:ip")
		n.Apply(b, next)
		n.Apply(b, sample.Shop())
		if got, want := canonical(n.dump()), canonical(before); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestTheModeIsThatOfTheNode(t *testing.T) {
	for name, c := range map[string]struct {
		prepare [][]string
		want    iptables.Mode
	}{
		"nothing there":               {nil, iptables.NFT},
		"the kubelet uses legacy":     {[][]string{{"iptables-legacy", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"}, {"iptables-nft", "-A", "INPUT", "-j", "ACCEPT"}}, iptables.Legacy},
		"the kubelet uses nft":        {[][]string{{"iptables-nft", "-t", "mangle", "-N", "KUBE-KUBELET-CANARY"}, {"iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"}}, iptables.NFT},
		"its chain is in IPv6 alone":  {[][]string{{"ip6tables-legacy", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"}}, iptables.Legacy},
		"no kubelet, rules in legacy": {[][]string{{"iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"}}, iptables.Legacy},
		"as many in both":             {[][]string{{"iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"}, {"iptables-nft", "-A", "INPUT", "-j", "ACCEPT"}}, iptables.NFT},
	} {
		t.Run(name, func(t *testing.T) {
			n := nodeOn(t, netns.NewSpace(t), iptables.Auto)
			for _, args := range c.prepare {
				n.Run(t, args[0], args[1:]...)
			}
			if got := n.Open().Mode(); got != c.want {
				t.Errorf("mode %s, want %s", got, c.want)
			}
		})
	}
}

func TestWhatWeLeftInTheOtherModeGoesOnceWeAreInForce(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		n.Apply(n.Open(), sample.Shop())
		other := nodeOn(t, n.Space, iptables.NFT+iptables.Legacy-n.mode)
		b := other.Open()
		if !strings.Contains(n.dump(), "TIERWALL-FORWARD") {
			t.Fatal("gone before anything else is in force")
		}
		n.Apply(b, sample.Shop())
		if strings.Contains(n.Run(t, n.command(iptables.IPv4, "-save")), "TIERWALL") {
			t.Error("the old chains are still there")
		}
		if !strings.Contains(n.Run(t, other.command(iptables.IPv4, "-save")), "-A FORWARD -m conntrack ! --ctstate RELATED,ESTABLISHED -j TIERWALL-FORWARD") {
			t.Error("the new chains are not there")
		}
	})
}

func TestOthersWriteAtTheSameTime(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		before := n.dump()
		b, done := n.Open(), make(chan error)
		go func() {
			for range 60 {
				for _, command := range []string{"-A", "-D"} {
					for _, f := range families {
						if _, err := n.Try(t.Context(), "", n.command(f, ""), "-w", "10", command, "OTHERS", "-p", "tcp", "-j", "ACCEPT"); err != nil {
							done <- err
							return
						}
					}
				}
			}
			close(done)
		}()
		all := programs(20)
		for i := 0; ; i++ {
			n.Apply(b, all[i%len(all)])
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("we disturbed others: %v", err)
				}
				n.Cleanup(b)
				if after := n.dump(); after != before {
					t.Errorf("before\n%s\nafter\n%s", before, after)
				}
				t.Logf("%d programs meanwhile", i+1)
				return
			default:
			}
		}
	})
}

func TestAThousandPodsOnANode(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		b := n.Open()
		n.Apply(b, sample.Crowd(1000))
		if n.Repair(b) {
			t.Error("the kernel is not as written")
		}
		n.Cleanup(b)
	})
}

func TestWithoutIPv6ToolsTheRestIsFiltered(t *testing.T) {
	n := nodeOn(t, netns.NewSpace(t), iptables.NFT)
	tools := t.TempDir()
	for _, name := range []string{"ipset", "iptables-nft", "iptables-nft-save", "iptables-nft-restore"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", tools)
	b := n.Open()
	err := n.Do(func() error { return b.Apply(t.Context(), sample.Shop()) })
	t.Setenv("PATH", path)
	if err == nil || !strings.Contains(err.Error(), "endpoint prod/backend has the IPv6 address fd00:1::3") {
		t.Errorf("an endpoint that cannot be filtered is not reported: %v", err)
	}
	if !strings.Contains(n.iptables(iptables.IPv4, "-S"), "-A FORWARD -m conntrack ! --ctstate RELATED,ESTABLISHED -j TIERWALL-FORWARD") {
		t.Error("IPv4 is not filtered")
	}
}

// applyOnly has the test binary apply one program and end.
const applyOnly = "TIERWALL_TEST_APPLY_ONLY"

func TestMain(m *testing.M) {
	if name := os.Getenv(applyOnly); name != "" {
		if err := applyAs(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func applyAs(name string) error {
	mode, err := iptables.ParseMode(name)
	if err != nil {
		return err
	}
	b, err := iptables.New(context.Background(), iptables.Options{Mode: mode})
	if err != nil {
		return err
	}
	if err := b.Apply(context.Background(), sample.Shop()); err != nil {
		return err
	}
	if _, err := b.Repair(context.Background()); err != nil {
		return err
	}
	return b.Cleanup(context.Background())
}

func TestTwoCapabilitiesAndAReadOnlyFileSystemAreEnough(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		const confine = `mount --bind / "$2" && mount -o remount,ro,bind "$2" && cd "$2" &&
			mount --bind /proc proc && mount --bind /dev dev && mount --bind /run/xtables.lock run/xtables.lock &&
			exec chroot . setpriv --bounding-set=-all,+net_admin,+net_raw --inh-caps=-all,+net_admin,+net_raw \
			env ` + applyOnly + `="$0" "$1"`
		touch(t, "/run/xtables.lock")
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if out, err := n.Try(t.Context(), "", "unshare", "--mount", "--propagation", "private", "sh", "-c", confine, n.mode.String(), self, t.TempDir()); err != nil {
			t.Error(err, out)
		}
	})
}

func touch(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func BenchmarkApply(b *testing.B) {
	for _, m := range []iptables.Mode{iptables.NFT, iptables.Legacy} {
		for _, pods := range []int{10, 250} {
			n := nodeOn(b, netns.NewSpace(b), m)
			backend := n.Open()
			for name, change := range changes(pods) {
				b.Run(fmt.Sprintf("%s/%d pods/%s", m, pods, name), func(b *testing.B) {
					n.Apply(backend, change[0])
					for i := 0; b.Loop(); i++ {
						n.Apply(backend, change[(i+1)%2])
					}
				})
			}
		}
	}
}

// changes are pairs of programs that differ a little.
func changes(pods int) map[string][2]*policy.Program {
	admits := func(class string, members int) *policy.Program {
		p := sample.Crowd(pods)
		for _, d := range policy.Directions {
			p.Classes[d]["open"].Tiers = []policy.Tier{{Rules: []policy.Rule{{Verdict: policy.Allow, Peers: []policy.SetID{"s"}, AnyPort: true}}}}
		}
		p.Sets = map[policy.SetID]*policy.Set{"s": {ID: "s"}}
		for i := range members {
			p.Sets["s"].Elements = append(p.Sets["s"].Elements, policy.AddressElement(netip.AddrFrom4([4]byte{10, 9, 0, byte(i)})))
		}
		p.Endpoints[1].Class[policy.Ingress] = policy.ClassID(class)
		return p
	}
	return map[string][2]*policy.Program{
		"a member comes or goes": {admits("open", 5), admits("open", 6)},
		"a pod changes class":    {admits("open", 5), admits("closed", 5)},
		"both at once":           {admits("open", 5), admits("closed", 6)},
		"a pod comes or goes":    {admits("open", 5), crowdLess(admits("open", 5))},
	}
}

func crowdLess(p *policy.Program) *policy.Program {
	p.Endpoints = p.Endpoints[:len(p.Endpoints)-1]
	return p
}

func sorted(s []string) []string { slices.Sort(s); return s }
