//go:build netns

package iptables_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/policy"
)

// wrapped are tools with a shell script before each of them, for this test alone.
// The script finds the tool itself as $tool and the directory of the test as $dir.
type wrapped struct {
	t   *testing.T
	dir string
}

func wrap(t *testing.T, scripts map[string]string) wrapped {
	t.Helper()
	w := wrapped{t, t.TempDir()}
	for name, script := range scripts {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		text := "#!/bin/sh\ntool=" + path + " dir=" + w.dir + "\n" + script + "\nexec $tool \"$@\"\n"
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", w.dir+":"+os.Getenv("PATH"))
	return w
}

// log has every call of the tools written down, in place of a script.
const log = `echo "${0##*/} $*" >> $dir/calls`

// calls are those since the last time.
func (w wrapped) calls() []string {
	w.t.Helper()
	path := filepath.Join(w.dir, "calls")
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// whileBroken makes a tool fail while the file "broken" is there.
const whileBroken = `if test -e $dir/broken; then echo "out of memory" >&2; exit 4; fi`

func (w wrapped) breakIt() { touch(w.t, filepath.Join(w.dir, "broken")) }

func (w wrapped) mend() {
	w.t.Helper()
	if err := os.Remove(filepath.Join(w.dir, "broken")); err != nil {
		w.t.Fatal(err)
	}
}

func TestFewProgramsAreStarted(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		scripts := map[string]string{"ipset": log}
		for _, f := range families {
			scripts[n.command(f, "")], scripts[n.command(f, "-save")], scripts[n.command(f, "-restore")] = log, log, log
		}
		w := wrap(t, scripts)
		b := n.Open()
		n.Apply(b, sample.Shop())
		n.Repair(b)
		w.calls()

		n.Repair(b)
		v4, v6 := n.command(iptables.IPv4, ""), n.command(iptables.IPv6, "")
		if got, want := w.calls(), []string{v4 + "-save -t filter", v6 + "-save -t filter"}; !slices.Equal(got, want) {
			t.Errorf("to see that all is well: %q, want %q", got, want)
		}
		next := sample.Shop()
		next.Sets["front"].Elements = append(next.Sets["front"].Elements, policy.AddressElement(address("10.3.0.1")))
		n.Apply(b, next)
		if got, want := w.calls(), []string{""}; !slices.Equal(got, want) {
			t.Errorf("for a member: %q, want %q", got, want)
		}
		next.Endpoints = slices.Clone(next.Endpoints)
		last := *next
		last.Endpoints = append(slices.Clone(next.Endpoints), policy.Endpoint{Namespace: "prod", Name: "more",
			Addrs: []netip.Addr{address("10.1.0.9")}, Class: next.Endpoints[0].Class})
		n.Apply(b, &last)
		if got, want := w.calls(), []string{v4 + "-restore --noflush -w 10"}; !slices.Equal(got, want) {
			t.Errorf("for an IPv4 pod: %q, want %q", got, want)
		}
		n.Apply(b, &last)
		if got := w.calls(); !slices.Equal(got, []string{""}) {
			t.Errorf("for nothing: %q", got)
		}
	})
}

func TestAChangeOfOneFamilyOrOfAnElementStartsNoOtherProgram(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		scripts := map[string]string{"ipset": log}
		for _, f := range families {
			scripts[n.command(f, "")], scripts[n.command(f, "-save")], scripts[n.command(f, "-restore")] = log, log, log
		}
		w := wrap(t, scripts)
		b := n.Open()
		four := func(policies, members int) *policy.Program {
			p := popular(policies, members)
			p.Endpoints[0].Addrs = p.Endpoints[0].Addrs[:1]
			for _, d := range policy.Directions {
				many := p.Classes[d]["many"]
				many.ID = policy.ClassID(fmt.Sprint("many-", policies))
				p.Classes[d] = map[policy.ClassID]*policy.Class{many.ID: many}
				p.Endpoints[0].Class[d] = many.ID
			}
			return p
		}
		n.Apply(b, four(12, 3))
		w.calls()
		n.Apply(b, four(12, 4))
		if got := w.calls(); !slices.Equal(got, []string{""}) {
			t.Errorf("for a member of each set of a class that merges them: %q", got)
		}
		next := four(13, 4)
		next.Classes[policy.Egress], next.Endpoints[0].Class[policy.Egress] = four(12, 4).Classes[policy.Egress], "many-12"
		n.Apply(b, next)
		if got := w.calls(); !slices.Equal(got, []string{""}) {
			t.Errorf("for one more policy of a pod that many select: %q", got)
		}
		more := *next
		more.Endpoints = append(slices.Clone(next.Endpoints), policy.Endpoint{Namespace: "prod", Name: "second", Addrs: []netip.Addr{address("10.1.0.9")}, Class: next.Endpoints[0].Class})
		n.Apply(b, &more)
		if got, want := w.calls(), []string{n.command(iptables.IPv4, "-restore") + " --noflush -w 10"}; !slices.Equal(got, want) {
			t.Errorf("for a pod where there are no IPv6 pods: %q, want %q", got, want)
		}
		if n.Repair(b) {
			t.Error("the kernel is not as written")
		}
	})
}

func TestASetThatGoesWhileTheSetsAreRead(t *testing.T) {
	n := newNode(t, iptables.NFT)
	w := wrap(t, map[string]string{"ipset": `if test "$1" = list -a -e $dir/broken; then rm $dir/broken; echo tw4-gone; fi`})
	b := n.Open()
	n.Apply(b, sample.Shop())
	w.breakIt()
	if n.Repair(b) {
		t.Error("there was nothing to mend")
	}
	if _, err := os.Stat(filepath.Join(w.dir, "broken")); !os.IsNotExist(err) {
		t.Error("the set was not there to go")
	}
}

func TestIPv6IsFilteredOnceItCanBe(t *testing.T) {
	forBothModes(t, func(t *testing.T, n node) {
		w := wrap(t, map[string]string{n.command(iptables.IPv6, "-save"): whileBroken})
		n.Apply(n.Open(), sample.Shop())
		n.iptables(iptables.IPv6, "-D", "FORWARD", "1")
		w.breakIt()
		b := n.Open()
		if b.Programmed() {
			t.Error("what nobody could read is taken for programmed")
		}
		closed := &policy.Program{Local: sample.Shop().Local}
		err := n.Do(func() error { return b.Apply(t.Context(), closed) })
		if err == nil || !strings.Contains(err.Error(), "fd00:1::/64") || !strings.Contains(err.Error(), "out of memory") {
			t.Errorf("a range that is not closed is not reported: %v", err)
		}
		if !strings.Contains(n.iptables(iptables.IPv4, "-S"), "-A TIERWALL-INGRESS -d 10.1.0.0/24") {
			t.Error("IPv4 is not closed")
		}
		w.mend()
		n.Apply(b, closed)
		if got := n.iptables(iptables.IPv6, "-S"); !strings.Contains(got, "-A TIERWALL-INGRESS -d fd00:1::/64") || !strings.Contains(got, "-A FORWARD -m conntrack ! --ctstate RELATED,ESTABLISHED -j TIERWALL-FORWARD") {
			t.Errorf("IPv6 is not closed:\n%s", got)
		}
		if n.Repair(b) {
			t.Error("the kernel is not as written")
		}
	})
}

func TestWhatCouldNotBeSweptIsSweptLater(t *testing.T) {
	for _, suffix := range []string{"-save", "-restore"} {
		t.Run(suffix, func(t *testing.T) {
			forBothModes(t, func(t *testing.T, n node) {
				n.Apply(n.Open(), sample.Shop())
				w := wrap(t, map[string]string{n.command(iptables.IPv4, suffix): whileBroken})
				other := nodeOn(t, n.Space, iptables.NFT+iptables.Legacy-n.mode)
				b := other.Open()
				w.breakIt()
				n.Apply(b, sample.Shop())
				w.mend()
				if !strings.Contains(n.iptables(iptables.IPv4, "-S"), "TIERWALL-FORWARD") {
					t.Fatal("nothing was left")
				}
				n.Repair(b)
				if strings.Contains(n.iptables(iptables.IPv4, "-S"), "TIERWALL") {
					t.Error("the old chains are still there")
				}
			})
		})
	}
}
