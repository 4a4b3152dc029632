//go:build netns

package droplog_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tierwall/tierwall/enforcer/droplog"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/nftables"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/enforcer/spoof"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/netns"
)

const group = 4741

var (
	node   = policy.Host{Name: "node", Addrs: addrs("192.168.0.1", "fd00:9::1"), PodCIDRs: prefixes("10.0.1.0/24", "fd00:1::/64")}
	client = policy.Endpoint{Namespace: "test", Name: "client", Node: "node", Addrs: addrs("10.0.1.2", "fd00:1::2")}
	server = policy.Endpoint{Namespace: "test", Name: "server", Node: "node", Addrs: addrs("10.0.1.3", "fd00:1::3")}
)

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// program lets everybody reach the server at port 80 by TCP, and the client nobody but the server.
func program() *policy.Program {
	id := func(name string) policy.RuleID {
		return policy.RuleID{Kind: "NetworkPolicy", Namespace: "test", Name: name, Field: "/spec"}
	}
	set := &policy.Set{ID: "server", Elements: []policy.Element{policy.AddressElement(server.Addrs[0]), policy.AddressElement(server.Addrs[1])}}
	p := &policy.Program{
		Hosts: []policy.Host{node}, Local: node.PodCIDRs, Sets: map[policy.SetID]*policy.Set{"server": set},
		Classes: [2]map[policy.ClassID]*policy.Class{
			{"web": {ID: "web", Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, ElseID: id("web"), Rules: []policy.Rule{
				{Verdict: policy.Allow, AnyPeer: true, Ports: []policy.Port{{Protocol: policy.TCP, First: 80, Last: 80}}}}}}},
				"any": {ID: "any", Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}}},
			{"out": {ID: "out", Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, ElseID: id("out"), Rules: []policy.Rule{
				{Verdict: policy.Allow, Peers: []policy.SetID{"server"}, AnyPort: true}}}}},
				"any": {ID: "any", Tiers: []policy.Tier{{Name: policy.DefaultTier, Else: policy.Allow}}}},
		},
	}
	c, s := client, server
	c.Class, s.Class = [2]policy.ClassID{"any", "out"}, [2]policy.ClassID{"web", "any"}
	p.Endpoints = []policy.Endpoint{c, s}
	return p
}

// line is what the test reads of a line of the log.
type line struct {
	Msg, Direction, Endpoint, Peer, Source, Destination, Protocol, Tier, Policy, Field, Note string
	Port                                                                                     uint16
}

// audited lets everybody reach the server at port 80 by TCP, and audits the rest of what it
// gets and everything that the client sends.
func audited() *policy.Program {
	p := program()
	audit := policy.Tier{Name: policy.DefaultTier, Else: policy.Audit}
	web := p.Classes[policy.Ingress]["web"].Tiers[0]
	web.Name, web.Else, web.ElseID = policy.BaselineTier, policy.Pass, policy.RuleID{}
	p.Classes[policy.Ingress]["web"] = &policy.Class{ID: "web", Tiers: []policy.Tier{web, audit}}
	p.Classes[policy.Egress]["out"] = &policy.Class{ID: "out", Tiers: []policy.Tier{audit}}
	return p
}

// listenNFLOG logs what is denied and audited on the node, by the program.
func listenNFLOG(t *testing.T, h *netns.Host, p *policy.Program) <-chan line {
	t.Helper()
	r, w := io.Pipe()
	l := droplog.New(droplog.Options{Group: group, Log: slog.New(slog.NewJSONHandler(w, nil))})
	l.Use(p)
	ctx, cancel := context.WithCancel(t.Context())
	done, lines := make(chan error, 1), make(chan line, 4096)
	go func() { done <- h.Do(func() error { return l.Start(ctx) }) }()
	go func() {
		for d := json.NewDecoder(r); ; {
			var next line
			if d.Decode(&next) != nil {
				return
			}
			lines <- next
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.Close()
	})
	return lines
}

// denyLog hands over so many packets a second.
func denyLog(perSecond int) ruletext.DenyLog {
	return ruletext.DenyLog{Group: group, Prefix: droplog.Prefix, PerSecond: perSecond, AuditPerSecond: perSecond,
		AuditPrefix: [2]string{droplog.AuditPrefix(policy.Ingress), droplog.AuditPrefix(policy.Egress)}}
}

// backends put a program in force, by name, logging so many packets a second.
var backends = map[string]func(ctx context.Context, p *policy.Program, perSecond int) error{
	"iptables-nft": func(ctx context.Context, p *policy.Program, perSecond int) error {
		return applyIPT(ctx, iptables.NFT, p, perSecond)
	},
	"iptables-legacy": func(ctx context.Context, p *policy.Program, perSecond int) error {
		return applyIPT(ctx, iptables.Legacy, p, perSecond)
	},
	"nftables": func(ctx context.Context, p *policy.Program, perSecond int) error {
		b, err := nftables.New(ctx, nftables.Options{DenyLog: denyLog(perSecond)})
		if err != nil {
			return err
		}
		return b.Apply(ctx, p)
	},
}

func applyIPT(ctx context.Context, m iptables.Mode, p *policy.Program, perSecond int) error {
	b, err := iptables.New(ctx, iptables.Options{Mode: m, DenyLog: denyLog(perSecond)})
	if err != nil {
		return err
	}
	return b.Apply(ctx, p)
}

func lab(t *testing.T, backend string, p *policy.Program, perSecond int) *netns.Lab {
	t.Helper()
	l := netns.NewLab(t, []policy.Host{node})
	for _, e := range []policy.Endpoint{client, server} {
		l.AddPod(t, e.Node, e.Key(), e.Addrs...)
	}
	if err := l.Nodes["node"].Do(func() error { return backends[backend](t.Context(), p, perSecond) }); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestWhatIsDeniedIsLoggedWithItsReason(t *testing.T) {
	for backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			l := lab(t, backend, program(), 1000)
			lines := listenNFLOG(t, l.Nodes["node"], program())
			untilHeard(t, l, lines)
			for family := range 2 {
				c, s, world, n := client.Addrs[family], server.Addrs[family], []netip.Addr{netns.World4, netns.World6}[family], node.Addrs[family]
				icmp := [2]policy.Protocol{policy.ICMP, policy.ICMPv6}[family]
				web := line{Msg: "denied", Direction: "ingress", Endpoint: "test/server", Peer: "test/client", Tier: "NetworkPolicy", Policy: "NetworkPolicy test/web", Field: "/spec"}
				out := line{Msg: "denied", Direction: "egress", Endpoint: "test/client", Tier: "NetworkPolicy", Policy: "NetworkPolicy test/out", Field: "/spec"}
				fromWorld := web
				fromWorld.Peer = ""
				for _, d := range []struct {
					flow policy.Flow
					want line
				}{
					{policy.Flow{Source: c, Destination: s, Protocol: policy.TCP, DestinationPort: 81}, web},
					{policy.Flow{Source: c, Destination: s, Protocol: policy.UDP, DestinationPort: 80}, web},
					{policy.Flow{Source: c, Destination: s, Protocol: policy.SCTP, DestinationPort: 80}, web},
					{policy.Flow{Source: c, Destination: s, Protocol: icmp}, web},
					{policy.Flow{Source: world, Destination: s, Protocol: policy.TCP, DestinationPort: 443}, fromWorld},
					{policy.Flow{Source: c, Destination: world, Protocol: policy.TCP, DestinationPort: 80}, out},
					{policy.Flow{Source: c, Destination: n, Protocol: policy.UDP, DestinationPort: 53}, out},
				} {
					d.want.Source, d.want.Destination, d.want.Port = d.flow.Source.String(), d.flow.Destination.String(), d.flow.DestinationPort
					d.want.Protocol = d.flow.Protocol.String()
					try(t, l, d.flow, false)
					if got := await(t, lines, d.flow); got != d.want {
						t.Errorf("logged %+v, want %+v", got, d.want)
					}
				}
				try(t, l, policy.Flow{Source: c, Destination: s, Protocol: policy.TCP, DestinationPort: 80}, true)
			}
			for len(lines) > 0 {
				if got := <-lines; got.Protocol == "TCP" && got.Port == 80 && got.Endpoint == "test/server" {
					t.Errorf("what is allowed is logged: %+v", got)
				}
			}
		})
	}
}

// Under Audit what Deny would drop passes, and is logged for each side that has no policy for it.
func TestWhatAuditLetsPassIsLoggedAndPasses(t *testing.T) {
	for backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			l := lab(t, backend, audited(), 1000)
			lines := listenNFLOG(t, l.Nodes["node"], audited())
			for len(lines) == 0 {
				try(t, l, policy.Flow{Source: client.Addrs[0], Destination: server.Addrs[0], Protocol: policy.TCP, DestinationPort: 8080}, true)
			}
			for family := range 2 {
				c, s, world, n := client.Addrs[family], server.Addrs[family], []netip.Addr{netns.World4, netns.World6}[family], node.Addrs[family]
				in := line{Msg: "audited", Direction: "ingress", Endpoint: "test/server", Peer: "test/client", Tier: "Default"}
				out := line{Msg: "audited", Direction: "egress", Endpoint: "test/client", Peer: "test/server", Tier: "Default"}
				toWorld, fromWorld := out, in
				toWorld.Peer, fromWorld.Peer = "", ""
				for _, d := range []struct {
					flow policy.Flow
					want []line
				}{
					{policy.Flow{Source: c, Destination: s, Protocol: policy.TCP, DestinationPort: 81}, []line{out, in}},
					{policy.Flow{Source: c, Destination: s, Protocol: policy.UDP, DestinationPort: 80}, []line{out, in}},
					{policy.Flow{Source: c, Destination: s, Protocol: policy.TCP, DestinationPort: 80}, []line{out}},
					{policy.Flow{Source: world, Destination: s, Protocol: policy.TCP, DestinationPort: 443}, []line{fromWorld}},
					{policy.Flow{Source: world, Destination: s, Protocol: policy.TCP, DestinationPort: 80}, nil},
					{policy.Flow{Source: n, Destination: s, Protocol: policy.TCP, DestinationPort: 5432}, nil},
					{policy.Flow{Source: c, Destination: n, Protocol: policy.TCP, DestinationPort: 53}, []line{toWorld}},
				} {
					try(t, l, d.flow, true)
					for _, want := range d.want {
						want.Source, want.Destination, want.Port = d.flow.Source.String(), d.flow.Destination.String(), d.flow.DestinationPort
						want.Protocol = d.flow.Protocol.String()
						if got := await(t, lines, d.flow); got != want {
							t.Errorf("logged %+v, want %+v", got, want)
						}
					}
					if d.want == nil { // what is logged later comes later
						marker := policy.Flow{Source: c, Destination: s, Protocol: policy.TCP, DestinationPort: 8080}
						try(t, l, marker, true)
						for seen := false; !seen; {
							got := <-lines
							if got.Source == d.flow.Source.String() && got.Port == d.flow.DestinationPort {
								t.Errorf("what no default action decides is logged: %+v", got)
							}
							seen = got.Port == marker.DestinationPort && got.Source == c.String()
						}
					}
				}
			}
		})
	}
}

// What is sent from an address of another is dropped before any policy is asked, and the log says so.
func TestForgedSourcesAreLogged(t *testing.T) {
	log := spoof.Log{Group: group, Prefix: droplog.SpoofPrefix, PerSecond: 1000}
	for name, k := range map[string]spoof.Kernel{
		"nftables": spoof.NFTables{Log: log}, "iptables-nft": spoof.IPTables{Mode: "nft", Log: log}, "iptables-legacy": spoof.IPTables{Mode: "legacy", Log: log},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab(t, name, program(), 1000)
			lines := listenNFLOG(t, l.Nodes["node"], program())
			untilHeard(t, l, lines)
			_, rest, _ := strings.Cut(l.Nodes["node"].Run(t, "ip", "route", "get", client.Addrs[0].String()), " dev ")
			link, _, _ := strings.Cut(rest, " ")
			if err := l.Nodes["node"].Do(func() error { return k.Write(t.Context(), spoof.Interfaces{Own: []string{link}}) }); err != nil {
				t.Fatal(err)
			}
			for i, a := range addrs("198.51.100.9", "2001:db8:5::9") {
				to := server.Addrs[i]
				l.Pods["test/client"].Run(t, "ip", "address", "add", netip.PrefixFrom(a, a.BitLen()).String(), "dev", "eth0", "nodad")
				forged := policy.Flow{Source: a, Destination: to, Protocol: policy.UDP, DestinationPort: 1}
				want := line{Msg: "denied", Direction: "egress", Peer: "test/server", Source: a.String(), Destination: to.String(), Protocol: "UDP", Port: 1,
					Note: "the pod that sent it does not have its source address"}
				try(t, l, policy.Flow{Source: client.Addrs[i], Destination: to, Protocol: policy.TCP, DestinationPort: 80}, true) // it knows its router
				if err := l.Pods["test/client"].Do(func() error { return send(a, to) }); err != nil {
					t.Fatal(err)
				}
				if got := await(t, lines, forged); got != want {
					t.Errorf("logged %+v, want %+v", got, want)
				}
			}
		})
	}
}

// untilHeard tries a flow that is denied until it is logged, and what was tried is read.
func untilHeard(t *testing.T, l *netns.Lab, lines <-chan line) {
	t.Helper()
	for len(lines) == 0 {
		try(t, l, policy.Flow{Source: client.Addrs[0], Destination: server.Addrs[0], Protocol: policy.UDP, DestinationPort: 9}, false)
	}
}

func try(t *testing.T, l *netns.Lab, f policy.Flow, passes bool) {
	t.Helper()
	patience := 100 * time.Millisecond
	if passes {
		patience = time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := l.Probe(ctx, f); err != nil || got != passes {
		t.Errorf("%+v: passes: %v (%v), want %v", f, got, err, passes)
	}
}

// await is the first line about a flow.
func await(t *testing.T, lines <-chan line, f policy.Flow) line {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case got := <-lines:
			if got.Source == f.Source.String() && got.Destination == f.Destination.String() && got.Port == f.DestinationPort && got.Protocol == f.Protocol.String() {
				return got
			}
		case <-timeout:
			t.Errorf("%+v is not logged", f)
			return line{}
		}
	}
}

// The kernel limits what it hands over, so that nobody can fill the log by sending.
func TestAFloodIsLoggedInPart(t *testing.T) {
	const perSecond, sent = 10, 3000
	for backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			flood(t, lab(t, backend, program(), perSecond), perSecond, sent)
		})
	}
}

func flood(t *testing.T, l *netns.Lab, perSecond, sent int) {
	lines := listenNFLOG(t, l.Nodes["node"], program())
	untilHeard(t, l, lines)
	start, n := time.Now(), 0
	if err := l.Pods["test/client"].Do(func() error {
		for range sent {
			if err := send(client.Addrs[0], server.Addrs[0]); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	most := 2*perSecond + perSecond*int(1+time.Since(start)/time.Second)
	for quiet := false; !quiet; {
		select {
		case got := <-lines:
			if got.Port == 1 {
				n++
			}
		case <-time.After(3 * time.Second): // the kernel hands over what it has after one
			quiet = true
		}
	}
	if n == 0 || n > most {
		t.Errorf("%d of %d packets are logged, want at most %d", n, sent, most)
	}
}

// send sends a datagram to port 1.
func send(from, to netip.Addr) error {
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: from.AsSlice()}, &net.UDPAddr{IP: to.AsSlice(), Port: 1})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("flood"))
	return err
}
