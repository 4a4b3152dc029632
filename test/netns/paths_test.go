//go:build netns

package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/nftables"
	"github.com/tierwall/tierwall/policy"
)

// kernelBackends are all backends, by name.
var kernelBackends = map[string]func(t *testing.T) (enforcer.Backend, error){
	"nftables": func(t *testing.T) (enforcer.Backend, error) { return nftables.New(t.Context(), nftables.Options{}) },
	"iptables-nft": func(t *testing.T) (enforcer.Backend, error) {
		return iptables.New(t.Context(), iptables.Options{Mode: iptables.NFT})
	},
	"iptables-legacy": func(t *testing.T) (enforcer.Backend, error) {
		return iptables.New(t.Context(), iptables.Options{Mode: iptables.Legacy})
	},
}

// The pods of the tests of paths: closed may send and get nothing, open everything, dns UDP at port 53.
var (
	closedPod = policy.Endpoint{Namespace: "test", Name: "closed", Node: "node", Class: [2]policy.ClassID{"closed", "closed"},
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.2"), netip.MustParseAddr("fd00:2:0:1::2")}}
	openPod = policy.Endpoint{Namespace: "test", Name: "open", Node: "node", Class: [2]policy.ClassID{"open", "open"},
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.3"), netip.MustParseAddr("fd00:2:0:1::3")}}
	dnsPod = policy.Endpoint{Namespace: "test", Name: "dns", Node: "node", Class: [2]policy.ClassID{"dns", "dns"},
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("fd00:2:0:1::4")}}
)

// pathsProgram is the program of these pods.
func pathsProgram() *policy.Program {
	p := &policy.Program{Classes: [2]map[policy.ClassID]*policy.Class{{}, {}}, Endpoints: []policy.Endpoint{closedPod, dnsPod, openPod},
		Hosts: []policy.Host{spoofNode}, Local: spoofNode.PodCIDRs}
	for _, d := range policy.Directions {
		for id, rules := range map[policy.ClassID][]policy.Rule{
			"closed": nil,
			"open":   {{Verdict: policy.Allow, AnyPeer: true, AnyPort: true}},
			"dns":    {{Verdict: policy.Allow, AnyPeer: true, Ports: []policy.Port{{Protocol: policy.UDP, First: 53, Last: 53}}}},
		} {
			p.Classes[d][id] = &policy.Class{ID: id, Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: rules}}}
		}
	}
	return p
}

// pathsLab is a node with these pods, in which their program is in force.
func pathsLab(t *testing.T, backend string) *Lab {
	t.Helper()
	l := NewLab(t, []policy.Host{spoofNode})
	for _, e := range []policy.Endpoint{closedPod, openPod, dnsPod} {
		l.AddPod(t, "node", e.Key(), e.Addrs...)
	}
	if err := l.Nodes["node"].Do(func() error {
		b, err := kernelBackends[backend](t)
		if err != nil {
			return err
		}
		return b.Apply(t.Context(), pathsProgram())
	}); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *Lab) pod(e policy.Endpoint) *Host { return l.Pods[e.Key()] }

// discoveryPacket is a message of RFC 4861's types that carries data in an option.
func discoveryPacket(kind, code, hopLimit uint8, from, to netip.Addr, mark []byte) []byte {
	message := append([]byte{kind, code, 0, 0, 0, 0, 0, 0}, to.AsSlice()...)
	message = append(message, 253, 2) // an option for experiments (RFC 4727)
	message = append(append(message, mark...), 0, 0)
	binary.BigEndian.PutUint16(message[2:], checksum6(58, from, to, message))
	p := packet6(58, from.AsSlice(), to.AsSlice(), message)
	p[7] = hopLimit
	return p
}

// checksum6 is that of a protocol above IPv6 (RFC 8200, section 8.1), in whose message it is 0.
func checksum6(protocol byte, from, to netip.Addr, message []byte) uint16 {
	b := append(from.AsSlice(), to.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	b = append(append(b, 0, 0, 0, protocol), message...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	return checksum(b)
}

// A router lowers the hop limit, and the kernel does so before the forward hook: no message of neighbour discovery
// leaves its link, whatever hop limit it was sent with.
func TestNeighbourDiscoveryDoesNotCrossTheNode(t *testing.T) {
	for backend := range kernelBackends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			l := pathsLab(t, backend)
			closed, open := l.pod(closedPod), l.pod(openPod)
			seen := map[*Host]*sniffer{closed: closed.sniff(t), open: open.sniff(t), l.World: l.World.sniff(t)}
			for _, c := range []struct {
				from, to *Host
				passes   bool
			}{{open, l.World, true}, {l.World, open, true}, {closed, l.World, false}, {l.World, closed, false}, {closed, open, false}, {open, closed, false}} {
				for kind := uint8(133); kind <= 137; kind++ {
					for _, hopLimit := range []uint8{255, 64} {
						patience := forDenied / 4
						if c.passes {
							patience = forAllowed
						}
						got := l.crosses(t, c.from, seen[c.to], func(mark []byte) [][]byte {
							return [][]byte{discoveryPacket(kind, 0, hopLimit, c.from.Addrs[1], c.to.Addrs[1], mark)}
						}, patience)
						if got != c.passes {
							t.Errorf("type %d with hop limit %d from %s to %s: passes: %v", kind, hopLimit, c.from.Name, c.to.Name, got)
						}
					}
				}
			}
			// The pod and its node still find each other anew.
			l.Nodes["node"].Run(t, "ip", "-6", "neighbour", "flush", "all")
			closed.Run(t, "ip", "-6", "neighbour", "flush", "all")
			l.expect(t, "node", policy.Flow{Source: spoofNode.Addrs[1], Destination: closedPod.Addrs[1], Protocol: policy.TCP, DestinationPort: 80}, true)
		})
	}
}

// sendRaw sends a packet from the host itself as it is, header and all: it leaves by the output hook.
func sendRaw(packet []byte) error {
	family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(packet[16:20])})
	if packet[0]>>4 == 6 {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(packet[24:40])}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, packet, 0, to)
}

// datagram is a UDP datagram in an IP packet.
func datagram(from, to netip.Addr, port uint16, data []byte) []byte {
	udp := binary.BigEndian.AppendUint16([]byte{0x9c, 0x40}, port)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(data)))
	udp = append(append(udp, 0, 0), data...)
	if from.Is4() {
		return packet4(unix.IPPROTO_UDP, from.AsSlice(), to.AsSlice(), nil, udp)
	}
	binary.BigEndian.PutUint16(udp[6:], checksum6(unix.IPPROTO_UDP, from, to, udp))
	return packet6(unix.IPPROTO_UDP, from.AsSlice(), to.AsSlice(), udp)
}

// IPVS sends packets of pods and of clients by the output hook, with the source that they came with. They are judged
// there as those that the node forwards; what the node sends from its own addresses is not.
func TestWhatIPVSSendsIsJudgedInBothDirections(t *testing.T) {
	stranger := []netip.Addr{netip.MustParseAddr("10.0.1.99"), netip.MustParseAddr("fd00:2:0:1::99")}
	for backend := range kernelBackends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			l := pathsLab(t, backend)
			seen := map[string]*sniffer{}
			for _, e := range []policy.Endpoint{closedPod, openPod, dnsPod} {
				seen[e.Name] = l.pod(e).sniff(t)
			}
			for _, c := range []struct {
				from   []netip.Addr
				to     policy.Endpoint
				port   uint16
				passes bool
			}{
				{openPod.Addrs, dnsPod, 53, true}, {dnsPod.Addrs, openPod, 53, true}, {[]netip.Addr{World4, World6}, openPod, 80, true},
				{spoofNode.Addrs, closedPod, 80, true},
				{openPod.Addrs, closedPod, 53, false}, {closedPod.Addrs, openPod, 53, false}, {openPod.Addrs, dnsPod, 54, false},
				{dnsPod.Addrs, openPod, 54, false}, {[]netip.Addr{World4, World6}, closedPod, 80, false}, {stranger, openPod, 80, false},
			} {
				for i, from := range c.from {
					mark, patience := marker(), forDenied
					if c.passes {
						patience = forAllowed
					}
					got := within(patience, func() bool {
						if err := l.Nodes["node"].Do(func() error { return sendRaw(datagram(from, c.to.Addrs[i], c.port, mark)) }); err != nil && !errors.Is(err, unix.EPERM) {
							t.Fatal(err) // EPERM is a packet that the output hook drops
						}
						return seen[c.to.Name].saw(mark)
					})
					if got != c.passes {
						t.Errorf("from %s to %s, port %d: passes: %v", from, c.to.Name, c.port, got)
					}
				}
			}
		})
	}
}

// With nftables, IPVS gets packets to a Service's address before they are judged as packets to the node: it takes them at
// priority 99 of the input hook. What it does not take is for the node, and is judged.
func TestIPVSTakesPacketsBeforeTheInputHookJudges(t *testing.T) {
	services := []netip.Addr{netip.MustParseAddr("10.96.0.9"), netip.MustParseAddr("fd00:96::9")}
	l := pathsLab(t, "nftables")
	node := l.Nodes["node"]
	for _, a := range services {
		node.Run(t, "ip", "address", "add", fmt.Sprintf("%s/%d", a, a.BitLen()), "dev", "lo")
	}
	node.Run(t, "nft", `add table inet ipvs; add chain inet ipvs input { type filter hook input priority 99; };
		add counter inet ipvs taken; add rule inet ipvs input udp dport 53 ip daddr 10.96.0.9 counter name taken drop;
		add rule inet ipvs input udp dport 53 ip6 daddr fd00:96::9 counter name taken drop`)
	for i, a := range services {
		for _, from := range []policy.Endpoint{closedPod, dnsPod, openPod} {
			if !within(forAllowed, func() bool {
				if err := l.pod(from).Do(func() error { return transmit(datagram(from.Addrs[i], a, 53, nil), l.gateway(t, l.pod(from))) }); err != nil {
					t.Fatal(err)
				}
				return !strings.Contains(node.Run(t, "nft", "reset", "counter", "inet", "ipvs", "taken"), "packets 0 ")
			}) {
				t.Errorf("IPVS does not get what %s sends to %s", from.Name, a)
			}
			// A port of the node that is no Service's.
			f := policy.Flow{Source: from.Addrs[i], Destination: a, Protocol: policy.TCP, DestinationPort: 80}
			l.expect(t, from.Name, f, from.Name == openPod.Name)
		}
	}
}

// fieldsWith are the words of a command with one of them replaced.
func fieldsWith(command, placeholder, value string) []string {
	words := strings.Fields(command)
	for i, w := range words {
		if w == placeholder {
			words[i] = value
		}
	}
	return words
}
