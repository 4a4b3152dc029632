package revoke

import (
	"fmt"
	"testing"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// A namespace with many denied connections neither keeps another's out of a round nor before them.
func TestANamespaceWithManyConnectionsDoesNotDelayOthers(t *testing.T) {
	for name, c := range map[string]struct {
		order []string // of namespaces, by connection
		want  map[string]int
	}{
		"many first":      {append(repeated("many", 1000), "few", "few", "other"), map[string]int{"many": 7, "few": 2, "other": 1}},
		"many last":       {append([]string{"few", "other"}, repeated("many", 1000)...), map[string]int{"many": 8, "few": 1, "other": 1}},
		"all have many":   {append(repeated("a", 99), repeated("b", 99)...), map[string]int{"a": 5, "b": 5}},
		"there is room":   {append(repeated("many", 5), "few"), map[string]int{"many": 5, "few": 1}},
		"nobody but many": {repeated("many", 50), map[string]int{"many": 10}},
	} {
		b := newBacklog(10)
		of := map[policy.Flow]string{}
		for n, namespace := range c.order {
			f := policy.Flow{Source: addr4(1), DestinationPort: uint16(n)}
			of[f] = namespace
			b.addConnection(namespace, Connection{Flow: f})
		}
		got, last := map[string]int{}, 0
		for n, conn := range b.roundRobin() {
			got[of[conn.Flow]]++
			if of[conn.Flow] != "many" {
				last = n
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) || b.more != (len(c.order) > 10) {
			t.Errorf("%s: %v, more: %v", name, got, b.more)
		}
		if c.want["many"] > 0 && last > 4 {
			t.Errorf("%s: a connection of another namespace is cut as number %d", name, last)
		}
	}
}

func repeated(s string, n int) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}

// What there is no room for is cut by the next rounds, for which nobody has to ask.
func TestRoundsGoOnUntilAllThatIsDeniedIsCut(t *testing.T) {
	for _, count := range []int{10, 11, 95} {
		m := remember()
		for n := range count {
			m.flows[policy.Flow{Source: addr4(byte(n + 2)), Destination: addr4(1), Protocol: policy.TCP, DestinationPort: 80}] = true
		}
		r := New(m, Options{})
		r.room = 20 // of which each connection takes two: it is read twice
		commit(t, r, admitting(), nil)
		rounds := 0
		for len(r.wake) > 0 {
			<-r.wake
			if report := r.runRound(t.Context()); report.Err != nil {
				t.Fatal(report.Err)
			}
			rounds++
		}
		if want := (count + 9) / 10; len(m.flows) > 0 || rounds != want {
			t.Errorf("%d connections: %d are left after %d rounds, want %d", count, len(m.flows), rounds, want)
		}
	}
}

// While a commit waits, no more is done than for a hundred connections; and the newest program counts.
func TestACommitWaitsForAFewConnections(t *testing.T) {
	var list []Connection
	for n := range 250 {
		list = append(list, Connection{Flow: from(byte(n + 2))})
	}
	r := New(remember(), Options{})
	before := admitting()
	commit(t, r, admitting(7), nil)
	r.evaluator = eval.New(before)
	done := 0
	for left := list; len(left) > 0; {
		n, err := r.runBatch(left, before, Connection.isDenied, func(_ *eval.Evaluator, c Connection) error {
			if c.Flow == from(7) {
				t.Error("a connection that the newest program allows is cut")
			}
			if done++; r.commit.TryLock() {
				t.Error("a program could come in force between the judgement and the cut")
			}
			return nil
		})
		if err != nil || n < 1 || n > maxBatch {
			t.Fatalf("%d at once: %v", n, err)
		}
		left = left[n:]
	}
	if done != 249 {
		t.Errorf("%d are cut", done)
	}
}

// However large the classes are, and however many connections: a round looks at little for each, and makes no
// index while a commit waits.
func TestARoundCostsLittleForEachConnection(t *testing.T) {
	p := admitting()
	c := p.Classes[policy.Ingress]["in"]
	for n := range 5000 {
		id := policy.SetID(fmt.Sprint(n))
		p.Sets[id] = &policy.Set{ID: id, Elements: []policy.Element{policy.AddressElement(addr4(9))}}
		c.Tiers[0].Rules = append(c.Tiers[0].Rules, policy.Rule{Verdict: policy.Allow, Peers: []policy.SetID{id},
			Ports: []policy.Port{{Protocol: policy.TCP, First: uint16(n), Last: uint16(n)}}})
	}
	e := eval.New(p)
	const connections = 2000
	for n := range connections {
		f := from(byte(n))
		f.DestinationPort = uint16(10000 + n)
		if denied := (Connection{Flow: f}).isDenied(e); !denied && f.Source != f.Destination {
			t.Fatalf("%+v is allowed", f)
		}
	}
	if looked := e.Looked(); looked > 200_000 {
		t.Errorf("looked at %d rules, peers, ports and elements for %d connections", looked, connections)
	}
}
