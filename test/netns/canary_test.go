//go:build netns

package netns

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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/ipt"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// The canaries: in all of the programs below, sender may never reach denied, and
// always reach allowed, each time for another reason.
var (
	sender  = []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}
	denied  = []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("fd00::3")}
	allowed = []netip.Addr{netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("fd00::4")}
)

// situation is who is in which set, and which sets admit whom.
type situation struct {
	// members are those of sets, by name.
	members map[policy.SetID][][]netip.Addr
	// egress is the set that the sender may reach; the others are the sets that
	// may reach the two receivers.
	egress, denied, allowed policy.SetID
}

// situations are all different; between some of them labels change, between
// others policies, between most both.
var situations = []situation{
	{map[policy.SetID][][]netip.Addr{"e": {denied, allowed}, "x": {sender}}, "e", "i", "x"},
	{map[policy.SetID][][]netip.Addr{"e": {allowed}, "i": {sender}, "y": {sender}}, "e", "i", "y"},
	{map[policy.SetID][][]netip.Addr{"e": {allowed}, "f": {denied}, "i": {sender}, "x": {sender}}, "e", "i", "x"},
	{map[policy.SetID][][]netip.Addr{"e": {allowed}, "f": {denied, allowed}, "y": {sender}}, "f", "i", "y"},
	{map[policy.SetID][][]netip.Addr{"f": {allowed}, "i": {sender}, "x": {sender}, "y": {sender}}, "f", "i", "y"},
	{map[policy.SetID][][]netip.Addr{"e": {denied, allowed}, "i": {sender}, "x": {sender}}, "e", "j", "x"},
}

func (s situation) program() *policy.Program {
	p := &policy.Program{
		Sets:  map[policy.SetID]*policy.Set{},
		Hosts: []policy.Host{{Name: "node", Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("fd00:1::1")}}},
		Local: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")},
	}
	for _, id := range []policy.SetID{"e", "f", "i", "j", "x", "y"} {
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
		rule := policy.Rule{Verdict: policy.Allow, AnyPort: true, AnyPeer: set == "", Peers: []policy.SetID{set}}
		p.Classes[d][id] = &policy.Class{ID: id, Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: []policy.Rule{rule}}}}
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

func canaryLab(t *testing.T) *Lab {
	p := situations[0].program()
	l := NewLab(t, p.Hosts)
	for _, e := range p.Endpoints {
		l.AddPod(t, e.Node, e.Name, e.Addrs...)
	}
	return l
}

func TestCanariesAreWhatTheyAreSaidToBe(t *testing.T) {
	for i, s := range situations {
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
	lab *Lab
	// leaked counts what reached denied; sent what was sent to it; passed and
	// broken count flows to allowed.
	leaked, sent, passed, broken atomic.Int64

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	trap   []net.PacketConn
}

func fly(t *testing.T, l *Lab) *canaries {
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
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			l := canaryLab(t)
			node := l.Nodes["node"]
			b := node.backend(t, m)
			c := fly(t, l)
			for c.leaked.Load() == 0 && t.Context().Err() == nil {
				time.Sleep(time.Millisecond) // the trap works
			}
			node.apply(t, b, situations[0].program())
			time.Sleep(50 * time.Millisecond)
			c.leaked.Store(0)
			n, start, r := times(t, 500), time.Now(), rand.New(rand.NewPCG(1, 1))
			for range n {
				node.apply(t, b, situations[r.IntN(len(situations))].program())
			}
			t.Logf("%d applies, %s each", n, time.Since(start)/time.Duration(n))
			c.land(t)
		})
	}
}

// killMode has the test binary apply programs until it is killed.
const killMode = "TIERWALL_TEST_APPLY_FOREVER"

func TestMain(m *testing.M) {
	if mode := os.Getenv(killMode); mode != "" {
		if err := applyForever(mode); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func applyForever(mode string) error {
	m, err := ipt.ParseMode(mode)
	if err != nil {
		return err
	}
	ctx := context.Background()
	b, err := ipt.New(ctx, ipt.Options{Mode: m})
	if err != nil {
		return err
	}
	if !b.Programmed() {
		return errors.New("what the one before left is not recognized")
	}
	for i := range 1 << 30 {
		if err := b.Apply(ctx, situations[rand.IntN(len(situations))].program()); err != nil {
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
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			l := canaryLab(t)
			node := l.Nodes["node"]
			node.apply(t, node.backend(t, m), situations[0].program())
			c := fly(t, l)
			for range 40 {
				node.runAndKill(t, m, time.Duration(20+rand.IntN(200))*time.Millisecond)
			}
			c.land(t)
			last := node.backend(t, m)
			for _, s := range situations {
				node.apply(t, last, s.program())
			}
			sets := node.Run(t, "ipset", "list", "-name")
			if n := strings.Count(sets, "\n"); n > 12 {
				t.Errorf("the killed ones left sets behind:\n%s", sets)
			}
		})
	}
}

// runAndKill runs an agent for a while and kills it. It is the first process of a
// PID namespace, as in a container: the tools that it runs die with it.
func (h *Host) runAndKill(t *testing.T, m ipt.Mode, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killMode+"="+m.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := h.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	_ = cmd.Process.Kill()
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the agent ended by itself: %v: %s", err, said.String())
	}
}
