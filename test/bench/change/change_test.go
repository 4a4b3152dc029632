//go:build netns

// Package change measures a node agent whole, with an API server, a kernel and packets: how long
// after a policy's request has returned the first packet is judged anew, what CPU time a change
// costs, how long a start takes, and what memory the agent has, by size of the cluster.
//
// There are 54 pods on the node, two of which are there and have a datagram sent from one to the
// other every millisecond; the other pods are objects of the API server alone.
package change

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// changes is how many policies come, and go again.
	changes = 60
	// churn is for how long a hundred pods a second change.
	churn = 5 * time.Second
)

// result is what an agent did in a cluster.
type result struct {
	backend string
	size    size
	// cold is from the agent's start to everything being in force.
	cold              time.Duration
	allowing, denying []time.Duration // sorted
	// each is the CPU time of one change of a policy, busy that of a second of churn.
	each, busy time.Duration
	resident   float64 // megabytes, at the end
}

func BenchmarkChanges(b *testing.B) {
	for b.Loop() {
		n := newNode(b)
		t := newTown(b, n)
		n.warm(b)
		var results []result
		for _, s := range sizes {
			fmt.Fprintf(os.Stderr, "%d pods elsewhere, %d policies", s.elsewhere, s.policies)
			t.grow(b, s)
			for _, backend := range []string{"nftables", "iptables-nft"} {
				fmt.Fprint(os.Stderr, "  ", backend)
				results = append(results, n.measure(b, s, backend))
			}
			fmt.Fprintln(os.Stderr)
		}
		fmt.Println(table(results))
	}
}

// warm starts an agent once: an API server's first answers take longer.
func (n *node) warm(b *testing.B) {
	a := n.start(b, "nftables")
	n.awaitInForce(b, a)
	n.stop(b, a)
}

// measure runs an agent and changes policies under it.
func (n *node) measure(b *testing.B, s size, backend string) result {
	r := result{backend: backend, size: s}
	standingProbe, changingProbe := n.watch(b, standing), n.watch(b, changing)
	if _, ok := changingProbe.first(time.Now(), true); !ok {
		b.Fatal("the node drops packets before there is an agent")
	}
	begin := time.Now()
	a := n.start(b, backend)
	n.awaitInForce(b, a)
	r.cold = time.Since(begin)
	if _, ok := changingProbe.first(time.Now(), false); !ok {
		b.Fatalf("%s: what no policy allows passes", backend)
	}
	before := a.usage(b)
	for i := range 2 * changes {
		r.change(b, n, changingProbe, i%2 == 0)
	}
	r.each = (a.usage(b).cpu - before.cpu) / (2 * changes)
	if at, ok := standingProbe.look(begin.Add(r.cold), false, time.Now().Add(-patience)); ok {
		b.Fatalf("%s: a datagram of %v that is allowed throughout was dropped", backend, at)
	}
	r.busy = n.churn(b, a)
	r.resident = a.usage(b).resident
	standingProbe.end()
	changingProbe.end()
	n.stop(b, a)
	slices.Sort(r.allowing)
	slices.Sort(r.denying)
	return r
}

// change makes a policy or deletes it, and notes how long after the request's return it was in force. It returns when
// that was.
func (r *result) change(b *testing.B, n *node, p *probe, allow bool) time.Time {
	np := admit("changing", namespace(1), "server", "client", changing)
	policies := n.api.NetworkingV1().NetworkPolicies(np.Namespace)
	var err error
	asked := time.Now()
	if allow {
		_, err = policies.Create(b.Context(), np, metav1.CreateOptions{})
	} else {
		err = policies.Delete(b.Context(), np.Name, metav1.DeleteOptions{})
	}
	returned := time.Now()
	if err != nil {
		b.Fatal(err)
	}
	at, ok := p.first(asked, allow)
	if !ok {
		b.Fatalf("%s: a change was not in force within 20 s", r.backend)
	}
	took := max(0, at.Sub(returned))
	if allow {
		r.allowing = append(r.allowing, took)
	} else {
		r.denying = append(r.denying, took)
	}
	return at
}

// churn relabels a hundred pods elsewhere a second, and gives the CPU time that a second of it costs the agent.
func (n *node) churn(b *testing.B, a *agent) time.Duration {
	before, begin := a.usage(b).cpu, time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ; time.Since(begin) < churn; n.turn++ {
		<-tick.C
		pod := here + n.turn%449 // so that a pod whose turn it is again gets another label
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"app":"app-%d"}}}`, n.turn%apps)
		if _, err := n.api.CoreV1().Pods(namespace(pod)).Patch(b.Context(), fmt.Sprint("pod-", pod),
			types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	return time.Duration(float64(a.usage(b).cpu-before) / time.Since(begin).Seconds())
}
