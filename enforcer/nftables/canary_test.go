//go:build netns

package nftables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/netns"
)

// forAllowed is how long a flow that should pass may take.
const forAllowed = time.Minute

// The canaries: in all of the programs below, sender may never reach denied, and
// always reach allowed, each time for another reason.
var (
	sender  = []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}
	denied  = []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("fd00::3")}
	allowed = []netip.Addr{netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("fd00::4")}
)

// situation is who is in which set, and which sets admit whom.
type situation struct {
	// merged gives the classes many rules, so that they are merged.
	merged bool
	// members are those of sets, by name.
	members map[policy.SetID][][]netip.Addr
	// egress is the set that the sender may reach; the others are the sets that
	// may reach the two receivers.
	egress, denied, allowed policy.SetID
}

// situations are all different; between some of them labels change, between
// others policies, between most both.
var situations = []situation{
	{false, map[policy.SetID][][]netip.Addr{"e": {denied, allowed}, "x": {sender}}, "e", "i", "x"},
	{false, map[policy.SetID][][]netip.Addr{"e": {allowed}, "i": {sender}, "y": {sender}}, "e", "i", "y"},
	{false, map[policy.SetID][][]netip.Addr{"e": {allowed}, "f": {denied}, "i": {sender}, "x": {sender}}, "e", "i", "x"},
	{false, map[policy.SetID][][]netip.Addr{"e": {allowed}, "f": {denied, allowed}, "y": {sender}}, "f", "i", "y"},
	{false, map[policy.SetID][][]netip.Addr{"f": {allowed}, "i": {sender}, "x": {sender}, "y": {sender}}, "f", "i", "y"},
	{false, map[policy.SetID][][]netip.Addr{"e": {denied, allowed}, "i": {sender}, "x": {sender}}, "e", "j", "x"},
}

func (s situation) program() *policy.Program {
	p := &policy.Program{
		Sets:  map[policy.SetID]*policy.Set{},
		Hosts: []policy.Host{{Name: "node", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("fd00:1::1")}}},
		Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")},
	}
	for _, id := range []policy.SetID{"e", "f", "i", "j", "x", "y", "empty1", "empty2", "empty3"} {
		set := &policy.Set{ID: id}
		for _, a := range slices.Concat(s.members[id]...) {
			set.Elements = append(set.Elements, policy.AddressElement(a))
		}
		slices.SortFunc(set.Elements, policy.Element.Compare)
		p.Sets[id] = set
	}
	p.Classes = [2]map[policy.ClassID]*policy.Class{{}, {}}
	class := func(d policy.Direction, set policy.SetID) policy.ClassID {
		id := policy.ClassID(d.String() + "-" + string(set))
		rules := []policy.Rule{{Verdict: policy.Allow, AnyPort: true, AnyPeer: set == "", Peers: []policy.SetID{set}}}
		if s.merged {
			id += "-merged"
			rules = manyRules(set)
		}
		p.Classes[d][id] = &policy.Class{ID: id, Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: rules}}}
		return id
	}
	for _, e := range []policy.Endpoint{
		{Name: "allowed", Addrs: allowed, Class: [2]policy.ClassID{class(policy.Ingress, s.allowed), class(policy.Egress, "")}},
		{Name: "denied", Addrs: denied, Class: [2]policy.ClassID{class(policy.Ingress, s.denied), class(policy.Egress, "")}},
		{Name: "sender", Addrs: sender, Class: [2]policy.ClassID{class(policy.Ingress, ""), class(policy.Egress, s.egress)}},
	} {
		e.Namespace, e.Node = "canary", "node"
		p.Endpoints = append(p.Endpoints, e)
	}
	return p
}

// manyRules admit a set by ports, by ranges and as a whole, one way or another, and with it at some
// ports a set that nobody is in, so that ports lead to different chains.
func manyRules(set policy.SetID) []policy.Rule {
	rule := func(ports ...policy.Port) policy.Rule {
		return policy.Rule{Verdict: policy.Allow, Peers: []policy.SetID{set}, AnyPeer: set == "", Ports: ports}
	}
	var rules []policy.Rule
	for i := range uint16(7) {
		first := 20000 + 100*i
		rules = append(rules, rule(policy.Port{Protocol: policy.TCP, First: first, Last: first + i%2}))
		rules[i].Peers = append(rules[i].Peers, []policy.SetID{"empty1", "empty2", "empty3"}[:i%4]...)
	}
	for _, port := range append(slices.Clone(netns.Ports), canaryPort) {
		rules = append(rules, rule(policy.Port{Protocol: policy.UDP, First: port, Last: port}))
	}
	return append(rules, rule(policy.AllPorts(policy.TCP)), rule(policy.AllPorts(policy.ICMP)))
}

// allSituations are those with few rules and those with many.
func allSituations() []situation {
	out := slices.Clone(situations)
	for _, s := range situations {
		s.merged = true
		out = append(out, s)
	}
	return out
}

func canaryLab(t *testing.T) *netns.Lab {
	p := situations[0].program()
	l := netns.NewLab(t, p.Hosts)
	for _, e := range p.Endpoints {
		l.AddPod(t, e.Node, e.Name, e.Addrs...)
	}
	return l
}

func TestCanariesAreWhatTheyAreSaidToBe(t *testing.T) {
	for i, s := range allSituations() {
		e := eval.New(s.program())
		for family := range sender {
			flow := policy.Flow{Source: sender[family], Protocol: policy.UDP, DestinationPort: canaryPort}
			for want, to := range map[policy.Verdict]netip.Addr{policy.Deny: denied[family], policy.Allow: allowed[family]} {
				flow.Destination = to
				if got := e.Decide(flow); got.Verdict != want {
					t.Errorf("situation %d: %+v: %+v", i, flow, got)
				}
			}
		}
	}
}

const canaryPort = 9

// canaries fly between the pods of the lab until stop is called. Every flow is a new one.
type canaries struct {
	lab *netns.Lab
	// leaked counts what reached denied; sent what was sent to it; passed and
	// broken count flows to allowed.
	leaked, sent, passed, broken atomic.Int64

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	trap   []net.PacketConn
}

func fly(t *testing.T, l *netns.Lab) *canaries {
	t.Helper()
	c := &canaries{lab: l}
	c.ctx, c.cancel = context.WithCancel(t.Context())
	c.setTrap(t)
	for family := range sender {
		c.fly(t, func() { c.attack(denied[family]) })
		c.fly(t, func() { c.visit(sender[family], allowed[family]) })
		c.fly(t, func() { c.stay(t, sender[family], allowed[family]) })
	}
	return c
}

func (c *canaries) fly(t *testing.T, f func()) {
	c.wait.Go(func() {
		if err := c.lab.Pods["sender"].Do(func() error { f(); return nil }); err != nil {
			t.Error(err)
		}
	})
}

// setTrap counts what comes to denied.
func (c *canaries) setTrap(t *testing.T) {
	t.Helper()
	if err := c.lab.Pods["denied"].Do(func() error {
		p, err := net.ListenPacket("udp", fmt.Sprintf(":%d", canaryPort))
		c.trap = append(c.trap, p)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c.wait.Go(func() {
		b := make([]byte, 64)
		for {
			if _, _, err := c.trap[0].ReadFrom(b); err != nil {
				return
			}
			c.leaked.Add(1)
		}
	})
}

// attack sends datagrams from ever new ports, but no more at once than the
// kernel's queues hold, which are the visitors' too.
func (c *canaries) attack(to netip.Addr) {
	for i := 0; c.ctx.Err() == nil; i++ {
		if i%10 == 0 {
			time.Sleep(time.Millisecond)
		}
		if conn, err := net.Dial("udp", netip.AddrPortFrom(to, canaryPort).String()); err == nil {
			_, _ = conn.Write([]byte("leak"))
			conn.Close()
			c.sent.Add(1)
		}
	}
}

// visit sends one datagram from ever new ports, and waits for its answer.
func (c *canaries) visit(from, to netip.Addr) {
	b := make([]byte, 64)
	for c.ctx.Err() == nil {
		conn, err := net.DialUDP("udp", &net.UDPAddr{IP: from.AsSlice()}, &net.UDPAddr{IP: to.AsSlice(), Port: 53})
		if err != nil {
			c.broken.Add(1)
			return
		}
		_ = conn.SetDeadline(time.Now().Add(forAllowed))
		_, _ = conn.Write([]byte("visit"))
		if _, err := conn.Read(b); err != nil {
			c.broken.Add(1)
		} else {
			c.passed.Add(1)
		}
		conn.Close()
		time.Sleep(time.Millisecond) // leave the machine to the attackers and to Apply
	}
}

// stay keeps one TCP connection busy.
func (c *canaries) stay(t *testing.T, from, to netip.Addr) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	conn, err := d.DialContext(c.ctx, "tcp", netip.AddrPortFrom(to, 5432).String())
	if err != nil {
		t.Errorf("the connection to allowed: %v", err)
		return
	}
	defer conn.Close()
	b := make([]byte, 4)
	for c.ctx.Err() == nil {
		_ = conn.SetDeadline(time.Now().Add(forAllowed))
		_, err := conn.Write([]byte("stay"))
		if err == nil {
			_, err = conn.Read(b)
		}
		if err != nil {
			t.Errorf("the connection to allowed broke: %v", err)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// land stops the canaries and says what became of them.
func (c *canaries) land(t *testing.T) {
	t.Helper()
	c.cancel()
	for _, p := range c.trap {
		p.Close()
	}
	c.wait.Wait()
	t.Logf("%d denied flows tried, %d allowed ones passed", c.sent.Load(), c.passed.Load())
	if c.leaked.Load() > 0 || c.broken.Load() > 0 {
		t.Errorf("%d denied flows passed, %d allowed ones broke", c.leaked.Load(), c.broken.Load())
	}
	if c.sent.Load() < 1000 || c.passed.Load() < 100 {
		t.Error("the canaries hardly flew")
	}
}

// times is how often something is done, unless the environment says so.
func times(t *testing.T, standard int) int {
	t.Helper()
	text := os.Getenv("TIERWALL_APPLIES")
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("TIERWALL_APPLIES: %v", err)
	}
	return n
}

func TestNoCanaryPassesOrBreaksWhileProgramsChange(t *testing.T) {
	l := canaryLab(t)
	n := nodeOn(t, l.Nodes["node"].Space, ruletext.DenyLog{})
	b := n.Open()
	c := fly(t, l)
	for c.leaked.Load() == 0 && t.Context().Err() == nil {
		time.Sleep(time.Millisecond) // the trap works
	}
	last := situations[0].program()
	n.Apply(b, last)
	time.Sleep(50 * time.Millisecond)
	c.leaked.Store(0)
	count, start, r, all := times(t, 1000), time.Now(), rand.New(rand.NewPCG(1, 1)), allSituations()
	ways := map[updateStrategy]int{}
	for i := range count {
		next := all[r.IntN(len(all))].program()
		change := transition.ChangeBetween(last, next)
		ways[chooseStrategy(last, next, change, usersOf(last, change))]++
		switch {
		case i%50 == 49: // the agent starts anew
			b = n.Open()
			n.Apply(b, next)
		case i%2 == 0:
			n.Update(b, change)
		default:
			n.Apply(b, next)
		}
		if i%20 == 7 {
			n.Repair(b)
		}
		last = next
	}
	t.Logf("%d changes, %s each; beside, in place, in turn: %v", count, time.Since(start)/time.Duration(count), ways)
	c.land(t)
}

// killMode has the test binary change programs until it is killed.
const killMode = "TIERWALL_TEST_APPLY_FOREVER"

func TestMain(m *testing.M) {
	if os.Getenv(killMode) != "" {
		if err := applyForever(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func applyForever() error {
	ctx := context.Background()
	b, err := New(ctx, Options{})
	if err != nil {
		return err
	}
	if !b.Programmed() {
		return errors.New("what the one before left is not recognized")
	}
	all := allSituations()
	for i := range 1 << 30 {
		if err := b.Apply(ctx, all[rand.IntN(len(all))].program()); err != nil {
			return err
		}
		if i%7 == 3 {
			if _, err := b.Repair(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestNoCanaryPassesOrBreaksWhenTheAgentIsKilled(t *testing.T) {
	l := canaryLab(t)
	n := nodeOn(t, l.Nodes["node"].Space, ruletext.DenyLog{})
	n.Apply(n.Open(), situations[0].program())
	c := fly(t, l)
	for range 40 {
		n.runAndKill(time.Duration(20+rand.IntN(200)) * time.Millisecond)
	}
	c.land(t)
	last := n.Open()
	for _, s := range situations {
		n.Apply(last, s.program())
		n.Repair(last)
	}
	fresh := newNode(t)
	fresh.Apply(fresh.Open(), situations[len(situations)-1].program())
	if got, want := n.contents(last), fresh.contents(); got != want {
		t.Errorf("the killed ones left something behind: got\n%s\nwant\n%s", got, want)
	}
}

// runAndKill runs an agent for a while and kills it. It is the first process of a
// PID namespace, as in a container: the tools that it runs die with it.
func (n node) runAndKill(after time.Duration) {
	n.T.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killMode+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	var said bytes.Buffer
	cmd.Stderr = &said
	n.Must(cmd.Start)
	time.Sleep(after)
	_ = cmd.Process.Kill()
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		n.T.Fatalf("the agent ended by itself: %v: %s", err, said.String())
	}
}
