//go:build netns

package netns

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

var sequenceSize = generate.Size{Nodes: 2, Pods: 8, NetworkPolicies: 8, ClusterNetworkPolicies: 4, TierRoles: 3}

// changed is the cluster after a random change of policies, roles or labels. Pods stay where they are.
func changed(r *rand.Rand, s *compile.Snapshot) *compile.Snapshot {
	after, other := *s, generate.Cluster(r, sequenceSize)
	switch r.IntN(7) {
	case 0: // a policy more, or another in its place
		after.NetworkPolicies = slices.Clone(s.NetworkPolicies)
		for _, np := range other.NetworkPolicies[:min(1, len(other.NetworkPolicies))] {
			np.Name = fmt.Sprint("np-", 20+r.IntN(8))
			after.NetworkPolicies = append(after.NetworkPolicies, np)
		}
	case 1: // one less
		after.NetworkPolicies = s.NetworkPolicies[min(1, len(s.NetworkPolicies)):]
	case 2:
		after.NetworkPolicies = other.NetworkPolicies
	case 3:
		after.ClusterNetworkPolicies = other.ClusterNetworkPolicies
	case 4:
		after.TierRoles = other.TierRoles
	case 5:
		after.Namespaces = other.Namespaces
	case 6:
		after.Pods = nil
		for i, p := range s.Pods {
			relabelled := *p
			relabelled.Labels = other.Pods[i].Labels
			after.Pods = append(after.Pods, &relabelled)
		}
	}
	return &after
}

// throughout reports whether a flow is denied, or allowed, before and after a change and on
// its way from the one to the other, when every node switches at its own moment.
func throughout(way string, f policy.Flow, before, after *oracle.Cluster) (denied, allowed bool) {
	type side func(*oracle.Cluster, policy.Flow) policy.Verdict
	both := func(of side, v policy.Verdict) bool { return of(before, f) == v && of(after, f) == v }
	passes := func(of side) bool { return of(before, f).Permits() && of(after, f).Permits() }
	allowed = passes(oracle.Egress) && passes(oracle.Ingress)
	denied = both(oracle.Egress, policy.Deny) || both(oracle.Ingress, policy.Deny)
	if way == "pod to pod on one node" {
		denied = both(oracle.Decide, policy.Deny)
	}
	return denied, allowed
}

// stream is packets of one flow, each of a connection of its own.
type stream struct {
	flow policy.Flow
	// tags are those of the packets that were sent.
	tags []uint32
}

// Connections that are allowed and such that are denied never have the same port, so
// that none of them is taken for an established one.
var (
	portsOfDenied  = ports{first: 1024, last: 32767}
	portsOfAllowed = ports{first: 32768, last: 60999}
)

type ports struct {
	first, last uint32
	used        atomic.Uint32
}

func (p *ports) next() int { return int(p.first + p.used.Add(1)%(p.last-p.first)) }

// send sends packets until the context ends.
func (s *stream) send(ctx context.Context, from *Host, source *ports, every time.Duration) error {
	return from.Do(func() error {
		for ctx.Err() == nil {
			tag := serial.Add(1)
			if err := sendOnce(s.flow, source.next(), tag); err == nil {
				s.tags = append(s.tags, tag)
			}
			time.Sleep(every)
		}
		return nil
	})
}

// sendOnce sends a datagram with a tag, or the INIT of an association.
func sendOnce(f policy.Flow, port int, tag uint32) error {
	if f.Protocol == policy.SCTP {
		c, err := net.ListenPacket(raw(f.Source, "132", "132"), f.Source.String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.WriteTo(sctpInit(f, tag), &net.IPAddr{IP: f.Destination.AsSlice()})
		return err
	}
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: f.Source.AsSlice(), Port: port}, &net.UDPAddr{IP: f.Destination.AsSlice(), Port: int(f.DestinationPort)})
	if err != nil {
		return err // the port is still in use
	}
	defer c.Close()
	_, err = c.Write(binary.BigEndian.AppendUint32(nil, tag))
	return err
}

// streams are some flows that are denied throughout a change, and some that are allowed.
func (l *Lab) streams(s *compile.Snapshot, seed uint64, before, after *oracle.Cluster) (denied, allowed []*stream) {
	const each = 6
	for _, f := range l.flows(s, seed, 300) {
		if f.Protocol == policy.TCP {
			f.Protocol = policy.UDP
		}
		if !f.Protocol.HasPorts() {
			continue
		}
		never, always := throughout(l.way(f), f, before, after)
		switch {
		case never && len(denied) < each:
			denied = append(denied, &stream{flow: f})
		case always && len(allowed) < each:
			allowed = append(allowed, &stream{flow: f})
		}
	}
	return denied, allowed
}

// change has both nodes switch while the streams flow, and says what leaked or broke.
func (l *Lab) change(t *testing.T, apply func(), denied, allowed []*stream) (sent int) {
	t.Helper()
	for _, s := range allowed { // the hosts find each other
		l.expect(t, "the first", s.flow, true)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wait sync.WaitGroup
	start := func(s *stream, source *ports, every time.Duration) {
		wait.Go(func() {
			if err := s.send(ctx, l.ByAddr(s.flow.Source), source, every); err != nil {
				t.Error(err)
			}
		})
	}
	for _, s := range denied {
		start(s, &portsOfDenied, 200*time.Microsecond)
	}
	for _, s := range allowed {
		start(s, &portsOfAllowed, 2*time.Millisecond)
	}
	time.Sleep(5 * time.Millisecond)
	apply()
	time.Sleep(5 * time.Millisecond)
	cancel()
	wait.Wait()
	for _, s := range allowed {
		l.arrived(t, s)
	}
	for _, s := range denied {
		sent += len(s.tags)
		l.leaked(t, s)
	}
	return sent
}

// arrived makes sure that every packet of a stream came.
func (l *Lab) arrived(t *testing.T, s *stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), forAllowed)
	defer cancel()
	for _, tag := range s.tags {
		if !l.ByAddr(s.flow.Destination).wait(ctx, tag) {
			t.Errorf("%+v (%s) broke", s.flow, l.way(s.flow))
			return
		}
	}
}

// leaked makes sure that no packet of a stream came.
func (l *Lab) leaked(t *testing.T, s *stream) {
	t.Helper()
	for _, tag := range s.tags {
		select {
		case <-l.ByAddr(s.flow.Destination).came(tag):
			t.Errorf("%+v (%s) leaked", s.flow, l.way(s.flow))
			return
		default:
		}
	}
}

func TestNoStreamLeaksOrBreaksOnRandomChanges(t *testing.T) {
	const sequences, changes = 3, 12
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			sent, passing := 0, 0
			for seed := range uint64(sequences) {
				r := generate.NewRand(seed)
				before := generate.Cluster(r, sequenceSize)
				p, _ := compile.Compile(before, "")
				l := labOf(t, p)
				nodes := l.backends(t, m)
				nodes.apply(t, l, compiledOf(before))
				for i := range changes {
					after := changed(r, before)
					denied, allowed := l.streams(after, seed<<16+uint64(i),
						generate.Objects(generate.NewRand(0), before), generate.Objects(generate.NewRand(0), after))
					sent += l.change(t, func() { nodes.apply(t, l, compiledOf(after)) }, denied, allowed)
					if passing += len(allowed); t.Failed() {
						t.Fatalf("seed %d, change %d", seed, i)
					}
					before = after
				}
			}
			t.Logf("%d denied packets sent, %d streams passed", sent, passing)
			if sent < 1000 || passing < sequences*changes {
				t.Error("the streams show too little")
			}
		})
	}
}

// apply lets every node switch to what is compiled for it, each by itself, at about the
// same time.
func (b backends) apply(t *testing.T, l *Lab, programs func(node string) *policy.Program) {
	t.Helper()
	var wait sync.WaitGroup
	for name, backend := range b {
		wait.Go(func() {
			p := programs(name)
			if err := l.Nodes[name].Do(func() error { return backend.Apply(t.Context(), p) }); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wait.Wait()
}

// backends are those of the nodes, by their names.
type backends map[string]*iptables.Backend

func (l *Lab) backends(t *testing.T, m iptables.Mode) backends {
	b := backends{}
	for name, n := range l.Nodes {
		b[name] = n.backend(t, m)
	}
	return b
}

// compiledOf are the programs of a snapshot.
func compiledOf(s *compile.Snapshot) func(node string) *policy.Program {
	return func(node string) *policy.Program {
		p, _ := compile.Compile(s, node)
		return p
	}
}
