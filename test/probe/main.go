// Command probe is what the test pods run: it serves ports, and says what it
// can reach. All times are nanoseconds since the Unix epoch, of the machine's
// one clock, so that they compare across pods.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const usage = `probe: what the test pods run

  probe serve  tcp:8080 udp:53 ...             answer on ports, until told to stop
  probe reach  [-timeout 1s] tcp:HOST:PORT ... try each once, all at once; a line of JSON each;
                                               with -source ADDRESS from an address that may be another's
  probe watch  [-timeout 1s] [-every 1ms] [-for 10s] tcp:HOST:PORT
                                               a new connection at every tick; a line of JSON each
  probe hold   [-every 10ms] [-for 10s] tcp:HOST:PORT
                                               one connection, an echo at every tick; a line of JSON each
`

// attempt is one line of output.
type attempt struct {
	Target  string `json:"target"`
	Sent    int64  `json:"sent"`
	Reached bool   `json:"reached"`
	Error   string `json:"error,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("say what to do; probe -help lists it")
	}
	flags := flag.NewFlagSet("probe "+args[0], flag.ContinueOnError)
	timeout := flags.Duration("timeout", time.Second, "wait at most so long for an answer")
	every := flags.Duration("every", time.Millisecond, "time between attempts")
	length := flags.Duration("for", 10*time.Second, "stop after so long")
	source := flags.String("source", "", "send from this address, which may be another's; needs CAP_NET_RAW")
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	switch targets := flags.Args(); {
	case args[0] == "serve" && len(targets) > 0:
		return serve(ctx, targets)
	case args[0] == "reach" && len(targets) > 0:
		reach(ctx, targets, dialer{*timeout, *source})
		return nil
	case args[0] == "watch" && len(targets) == 1:
		watch(ctx, targets[0], dialer{*timeout, *source}, *every, *length)
		return nil
	case args[0] == "hold" && len(targets) == 1:
		return hold(ctx, targets[0], dialer{*timeout, *source}, *every, *length)
	}
	return fmt.Errorf("not understood: %q\n%s", strings.Join(args, " "), usage)
}

var output sync.Mutex

func (a attempt) print() {
	line, err := json.Marshal(a)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(line))
}

func serve(ctx context.Context, targets []string) error {
	for _, t := range targets {
		network, port, _ := strings.Cut(t, ":")
		var err error
		switch network {
		case "tcp":
			err = serveTCP(ctx, port)
		case "udp":
			err = serveUDP(ctx, port)
		default:
			err = fmt.Errorf("%q: want tcp:PORT or udp:PORT", t)
		}
		if err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func serveTCP(ctx context.Context, port string) error {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	return nil
}

func echo(c net.Conn) {
	defer func() { _ = c.Close() }()
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		if _, err := fmt.Fprintln(c, lines.Text()); err != nil {
			return
		}
	}
}

func serveUDP(ctx context.Context, port string) error {
	c, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(buf[:n], from)
		}
	}()
	return nil
}

func reach(ctx context.Context, targets []string, d dialer) {
	var all sync.WaitGroup
	for _, t := range targets {
		all.Go(func() { try(ctx, t, d).print() })
	}
	all.Wait()
}

func watch(ctx context.Context, target string, d dialer, every, length time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			all.Go(func() { try(context.WithoutCancel(ctx), target, d).print() })
		}
	}
}

// try asks a target once: a TCP handshake, or an echo over UDP.
func try(ctx context.Context, target string, d dialer) attempt {
	a := attempt{Target: target, Sent: time.Now().UnixNano()}
	c, err := d.dial(ctx, target)
	if err == nil {
		defer func() { _ = c.Close() }()
		if strings.HasPrefix(target, "udp:") {
			err = exchange(c, d.timeout)
		}
	}
	a.Reached = err == nil
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// dialer makes connections.
type dialer struct {
	timeout time.Duration
	source  string // empty is the pod's own
}

func (d dialer) dial(ctx context.Context, target string) (net.Conn, error) {
	network, addr, _ := strings.Cut(target, ":")
	nd := net.Dialer{Timeout: d.timeout}
	if d.source != "" {
		nd.Control = transparent
		source := netip.AddrPortFrom(netip.MustParseAddr(d.source), 0)
		if nd.LocalAddr = net.TCPAddrFromAddrPort(source); network == "udp" {
			nd.LocalAddr = net.UDPAddrFromAddrPort(source)
		}
	}
	c, err := nd.DialContext(ctx, network, addr)
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // thousands of connections must not wait out their end
	}
	return c, err
}

// transparent lets a socket have an address that is none of the pod's, as ip(7) says of IP_TRANSPARENT.
func transparent(network, _ string, c syscall.RawConn) error {
	var err error
	controlErr := c.Control(func(fd uintptr) {
		if strings.HasSuffix(network, "6") {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
		}
	})
	return errors.Join(controlErr, err)
}

func exchange(c net.Conn, timeout time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c, "ping"); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 64))
	return err
}

// hold keeps one connection and uses it at every tick, until it fails.
func hold(ctx context.Context, target string, d dialer, every, length time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	c, err := d.dial(ctx, target)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a := attempt{Target: target, Sent: time.Now().UnixNano()}
			err := exchange(c, d.timeout)
			if a.Reached = err == nil; err != nil {
				a.Error = err.Error()
			}
			a.print()
			if err != nil {
				return err
			}
		}
	}
}
