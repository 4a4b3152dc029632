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

	"github.com/tierwall/tierwall/enforcer/iptables"
)

func canaryLab(t *testing.T, on placement) *Lab {
	l := NewLab(t, on)
	for _, e := range on.endpoints() {
		l.AddPod(t, e.Node, e.Name, e.Addrs...)
	}
	return l
}

// host is a pod or a node by its name.
func (l *Lab) host(name string) *Host {
	if n := l.Nodes[name]; n != nil {
		return n
	}
	return l.Pods[name]
}

const canaryPort = 9

// canaries fly between the hosts of the lab until stop is called. Every flow is a new one.
type canaries struct {
	lab *Lab
	// leaked counts what arrived and may not, by flight; sent what was sent on such
	// flights; passed counts flows that may arrive, broken says which of them did not.
	leaked       map[flight]*atomic.Int64
	sent, passed atomic.Int64
	mu           sync.Mutex
	broken       []string

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	trap   []net.PacketConn
}

func fly(t *testing.T, l *Lab, on placement) *canaries {
	t.Helper()
	c := &canaries{lab: l, leaked: map[flight]*atomic.Int64{}}
	c.ctx, c.cancel = context.WithCancel(t.Context())
	trapped := map[string]bool{}
	for _, f := range on.flights() {
		if f.passes {
			continue
		}
		c.leaked[f] = &atomic.Int64{}
		if !trapped[f.to] {
			trapped[f.to] = true
			c.setTrap(t, f.to)
		}
	}
	c.meet(t, on)
	for _, f := range on.flights() {
		for family := range sender {
			c.start(t, f, addrsOf[f.from][family], addrsOf[f.to][family])
		}
	}
	return c
}

// meet lets the hosts find each other: what waits for an address to be resolved is
// soon too much for the kernel to keep.
func (c *canaries) meet(t *testing.T, on placement) {
	t.Helper()
	for _, f := range on.flights() {
		for family := range sender {
			if f.passes {
				flow := f.flow(family)
				flow.DestinationPort = 53
				c.lab.expect(t, f.from, flow, true)
			}
		}
	}
}

// start sends canaries of one family.
func (c *canaries) start(t *testing.T, f flight, from, to netip.Addr) {
	if !f.passes {
		c.fly(t, f.from, func() { c.attack(f, to) })
		return
	}
	c.fly(t, f.from, func() { c.visit(from, to) })
	if f.from == "sender" {
		c.fly(t, f.from, func() { c.stay(t, from, to) })
	}
}

func (c *canaries) fly(t *testing.T, from string, f func()) {
	c.wait.Go(func() {
		if err := c.lab.host(from).Do(func() error { f(); return nil }); err != nil {
			t.Error(err)
		}
	})
}

// leaks is how many canaries arrived that may not.
func (c *canaries) leaks() (all int64, each []string) {
	for f, n := range c.leaked {
		all += n.Load()
		each = append(each, fmt.Sprintf("%d from %s to %s", n.Load(), f.from, f.to))
	}
	slices.Sort(each)
	return all, each
}

// trapsWork reports whether every kind of canary was caught once.
func (c *canaries) trapsWork() bool {
	for _, n := range c.leaked {
		if n.Load() == 0 {
			return false
		}
	}
	return true
}

// setTrap counts what comes to a host, by where it says that it comes from.
func (c *canaries) setTrap(t *testing.T, name string) {
	t.Helper()
	var trap net.PacketConn
	if err := c.lab.host(name).Do(func() (err error) {
		trap, err = net.ListenPacket("udp", fmt.Sprintf(":%d", canaryPort))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c.trap = append(c.trap, trap)
	c.wait.Go(func() {
		b := make([]byte, 64)
		for {
			n, _, err := trap.ReadFrom(b)
			if err != nil {
				return
			}
			c.leaked[flight{from: string(b[:n]), to: name}].Add(1)
		}
	})
}

// attack sends datagrams from ever new ports, but no more at once than the
// kernel's queues hold, which are the visitors' too.
func (c *canaries) attack(f flight, to netip.Addr) {
	for i := 0; c.ctx.Err() == nil; i++ {
		if i%5 == 0 {
			time.Sleep(time.Millisecond)
		}
		if conn, err := net.Dial("udp", netip.AddrPortFrom(to, canaryPort).String()); err == nil {
			_, _ = conn.Write([]byte(f.from))
			conn.Close()
			c.sent.Add(1)
		}
	}
}

// visit sends one datagram from ever new ports, and waits for its answer.
func (c *canaries) visit(from, to netip.Addr) {
	for c.ctx.Err() == nil {
		start := time.Now()
		if err := visitOnce(from, to); err != nil {
			c.mu.Lock()
			c.broken = append(c.broken, fmt.Sprintf("%s to %s, sent at %s: %v", from, to, start.Format("05.000"), err))
			c.mu.Unlock()
			continue
		}
		c.passed.Add(1)
		time.Sleep(time.Millisecond) // leave the machine to the attackers and to Apply
	}
}

func visitOnce(from, to netip.Addr) error {
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: from.AsSlice()}, &net.UDPAddr{IP: to.AsSlice(), Port: 53})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(forAllowed))
	if _, err := conn.Write([]byte("visit")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 64))
	return err
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
	if leaked, each := c.leaks(); leaked > 0 || len(c.broken) > 0 {
		t.Errorf("denied flows that passed: %s; allowed ones that broke: %q", strings.Join(each, ", "), c.broken)
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
		for _, on := range []placement{oneNode, twoNodes} {
			t.Run(fmt.Sprintf("%s, nodes: %d", m, len(on)), func(t *testing.T) {
				l := canaryLab(t, on)
				nodes := l.backends(t, m)
				c := fly(t, l, on)
				for !c.trapsWork() && t.Context().Err() == nil {
					time.Sleep(time.Millisecond)
				}
				nodes.apply(t, l, situations[0].on(on))
				time.Sleep(50 * time.Millisecond)
				for _, n := range c.leaked {
					n.Store(0)
				}
				n, start, r := times(t, 400/len(on)), time.Now(), rand.New(rand.NewPCG(1, 1))
				now := situations[0]
				for applied := 0; applied < n; {
					next := situations[r.IntN(len(situations))]
					if on.mayFollow(now, next) {
						nodes.apply(t, l, next.on(on))
						now, applied = next, applied+1
					}
				}
				t.Logf("%d applies, %s each", n, time.Since(start)/time.Duration(n))
				c.land(t)
			})
		}
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
	m, err := iptables.ParseMode(mode)
	if err != nil {
		return err
	}
	ctx := context.Background()
	b, err := iptables.New(ctx, iptables.Options{Mode: m})
	if err != nil {
		return err
	}
	if !b.Programmed() {
		return errors.New("what the one before left is not recognized")
	}
	for i := range 1 << 30 {
		if err := b.Apply(ctx, situations[rand.IntN(len(situations))].program(oneNode, "node")); err != nil {
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
			l := canaryLab(t, oneNode)
			node := l.Nodes["node"]
			node.apply(t, node.backend(t, m), situations[0].program(oneNode, "node"))
			c := fly(t, l, oneNode)
			for range 40 {
				node.runAndKill(t, m, time.Duration(20+rand.IntN(200))*time.Millisecond)
			}
			c.land(t)
			last := node.backend(t, m)
			for _, s := range situations {
				node.apply(t, last, s.program(oneNode, "node"))
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
func (h *Host) runAndKill(t *testing.T, m iptables.Mode, after time.Duration) {
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
