//go:build netns

package change

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/policy/compile"
)

const (
	// hostile is a namespace with pods on the node, whose owner writes policies to do harm.
	hostile     = "hostile"
	hostilePods = 8
	// worstPolicies is how many there are at once.
	worstPolicies = 200
)

// neighbour is what one tenant's changes took without and with another tenant's policies.
type neighbour struct {
	backend, attack string
	quiet, attacked latencies
	written         int     // objects
	resident        float64 // megabytes, during the attack
}

// latencies are sorted: how long after its request returned a change was in force, and how long after a watch of the
// API server delivered it, which leaves out what the API server needs.
type latencies struct {
	sinceRequest, sinceWatch []time.Duration
}

// BenchmarkNeighbour measures how long after its request a tenant's change is in force, while another tenant
// writes policies and labels that are as bad for the node as they can be.
func BenchmarkNeighbour(b *testing.B) {
	for b.Loop() {
		n := newNode(b)
		t := newTown(b, n)
		n.makeHostileNamespace(b)
		t.grow(b, size{450, 100})
		n.warm(b)
		var results []neighbour
		for _, backend := range []string{"nftables", "iptables-nft", "iptables-legacy"} {
			fmt.Fprintln(os.Stderr, backend)
			results = append(results, n.measureNeighbour(b, backend)...)
		}
		fmt.Println(neighbourTable(results))
	}
}

func (n *node) makeHostileNamespace(b *testing.B) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: hostile}}
	if _, err := n.api.CoreV1().Namespaces().Create(b.Context(), ns, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	for i := range hostilePods {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: hostile, Name: fmt.Sprint("pod-", i), Labels: map[string]string{"a": fmt.Sprint("v", i)}}}
		pod.Spec.NodeName, pod.Spec.Containers = local, []corev1.Container{{Name: "c", Image: "none",
			Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}}}
		made, err := n.api.CoreV1().Pods(hostile).Create(b.Context(), pod, metav1.CreateOptions{})
		if err != nil {
			b.Fatal(err)
		}
		made.Status.Phase, made.Status.PodIP = corev1.PodRunning, fmt.Sprintf("10.0.0.%d", 200+i)
		made.Status.PodIPs = []corev1.PodIP{{IP: made.Status.PodIP}}
		if _, err := n.api.CoreV1().Pods(hostile).UpdateStatus(b.Context(), made, metav1.UpdateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// attacks are what the other tenant does until the context ends; they return how many objects they wrote.
var attacks = []struct {
	name string
	run  func(*node, context.Context) (int, error)
}{
	{"policies", (*node).writeWorstPolicies},
	{"labels", (*node).relabelPods},
}

func (n *node) measureNeighbour(b *testing.B, backend string) (out []neighbour) {
	p := n.watch(b, changing)
	a := n.start(b, backend)
	n.awaitInForce(b, a)
	quiet := n.changeRepeatedly(b, p, backend)
	for _, attack := range attacks {
		r := neighbour{backend: backend, attack: attack.name, quiet: quiet}
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() {
			var err error
			r.written, err = attack.run(n, ctx)
			done <- err
		}()
		r.attacked = n.changeRepeatedly(b, p, backend)
		r.resident = a.usage(b).resident
		stop()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		if err := n.api.NetworkingV1().NetworkPolicies(hostile).DeleteCollection(b.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			b.Fatal(err)
		}
		out = append(out, r)
	}
	p.end()
	n.stop(b, a)
	return out
}

// changeRepeatedly makes a policy and deletes it, many times.
func (n *node) changeRepeatedly(b *testing.B, p *probe, backend string) (l latencies) {
	r := result{backend: backend}
	w, err := n.api.NetworkingV1().NetworkPolicies(namespace(1)).Watch(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	delivered := make(chan time.Time, 2*changes)
	go func() {
		for e := range w.ResultChan() {
			if np, ok := e.Object.(*networkingv1.NetworkPolicy); ok && np.Name == "changing" {
				delivered <- time.Now()
			}
		}
	}()
	for i := range 2 * changes {
		at := r.change(b, n, p, i%2 == 0)
		l.sinceWatch = append(l.sinceWatch, max(0, at.Sub(<-delivered)))
	}
	l.sinceRequest = slices.Concat(r.allowing, r.denying)
	slices.Sort(l.sinceRequest)
	slices.Sort(l.sinceWatch)
	return l
}

// writeWorstPolicies writes policies, each in place of the one before of its name, until the context ends.
func (n *node) writeWorstPolicies(ctx context.Context) (int, error) {
	policies := n.api.NetworkingV1().NetworkPolicies(hostile)
	written := 0
	for ; ctx.Err() == nil; written++ {
		np := worstPolicy(written)
		if written >= worstPolicies {
			_ = policies.Delete(ctx, np.Name, metav1.DeleteOptions{})
		}
		if _, err := policies.Create(ctx, np, metav1.CreateOptions{}); err != nil && ctx.Err() == nil {
			return written, fmt.Errorf("policy %d: %w", written, err)
		}
	}
	return written, nil
}

// relabelPods writes policies that are within every budget and select pods by a label, and then changes this label of
// the pods again and again, so that the rules of a pod come and go.
func (n *node) relabelPods(ctx context.Context) (written int, err error) {
	size := 0
	for i := 1; ; i += 4 {
		np := worstPolicy(i)
		if size += compile.NetworkPolicySize(np); size > compile.MaxClassSize {
			break
		}
		np.Spec.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "closed", Operator: metav1.LabelSelectorOpDoesNotExist}}
		if compile.NetworkPolicySize(np) > compile.MaxPolicySize {
			continue
		}
		if _, err := n.api.NetworkingV1().NetworkPolicies(hostile).Create(ctx, np, metav1.CreateOptions{}); err != nil && ctx.Err() == nil {
			return written, err
		}
		written++
	}
	for i := 0; ctx.Err() == nil; i++ {
		patch := []byte(`{"metadata":{"labels":{"closed":""}}}`)
		if i/hostilePods%2 == 0 {
			patch = []byte(`{"metadata":{"labels":{"closed":null}}}`)
		}
		if _, err := n.api.CoreV1().Pods(hostile).Patch(ctx, fmt.Sprint("pod-", i%hostilePods), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil && ctx.Err() == nil {
			return written, err
		}
		written++
	}
	return written, nil
}

// worstPolicy is one that multiplies: peers by ranges of ports, networks by ports, exceptions by their
// bits, or rules by members, in sizes up to what the API server takes.
func worstPolicy(i int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: hostile, Name: fmt.Sprint("worst-", i%worstPolicies)}}
	size := []int{10, 100, 1000, 2500}[i/4%4]
	var rules []networkingv1.NetworkPolicyIngressRule
	switch i % 4 {
	case 0:
		rules = []networkingv1.NetworkPolicyIngressRule{{From: selectors(i, size), Ports: ranges(i, size)}}
	case 1:
		for j := range size {
			rules = append(rules, networkingv1.NetworkPolicyIngressRule{From: networks(i+j, 5, 0), Ports: ranges(i+j, 2)})
		}
	case 2:
		rules = []networkingv1.NetworkPolicyIngressRule{{From: networks(i, 10, size), Ports: ranges(i, 100)}}
	case 3:
		everywhere := []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}
		for j := range size {
			rules = append(rules, networkingv1.NetworkPolicyIngressRule{From: everywhere, Ports: ranges(i+7*j, 3)})
		}
	}
	np.Spec.Ingress = rules
	return np
}

func selectors(seed, n int) []networkingv1.NetworkPolicyPeer {
	var out []networkingv1.NetworkPolicyPeer
	for i := range n {
		out = append(out, networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{fmt.Sprint("x", seed+i)}}}}})
	}
	return out
}

func ranges(seed, n int) []networkingv1.NetworkPolicyPort {
	var out []networkingv1.NetworkPolicyPort
	for i := range n {
		first := 1024 + (seed+3*i)%60000
		port, end := intstr.FromInt(first), int32(first+1)
		out = append(out, networkingv1.NetworkPolicyPort{Port: &port, EndPort: &end})
	}
	return out
}

func networks(seed, n, exceptions int) []networkingv1.NetworkPolicyPeer {
	var out []networkingv1.NetworkPolicyPeer
	for i := range n {
		block := &networkingv1.IPBlock{CIDR: fmt.Sprintf("fd%02x:%x::/32", (seed+i)%256, seed%65536)}
		for e := range exceptions {
			block.Except = append(block.Except, fmt.Sprintf("fd%02x:%x:%x::1/128", (seed+i)%256, seed%65536, e+1))
		}
		out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: block})
	}
	return out
}

func neighbourTable(results []neighbour) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\nbackend\tattack by\tsince\talone p50\tp99\tattacked p50\tp99 ms\tp99 ratio\tobjects written\tresident MB\t")
	for _, r := range results {
		row := func(since string, quiet, attacked []time.Duration) {
			fmt.Fprintf(w, "%s\t%s\t%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t%d\t%.0f\t\n", r.backend, r.attack, since, quantile(quiet, 0.5), quantile(quiet, 0.99),
				quantile(attacked, 0.5), quantile(attacked, 0.99), quantile(attacked, 0.99)/quantile(quiet, 0.99), r.written, r.resident)
		}
		row("request", r.quiet.sinceRequest, r.attacked.sinceRequest)
		row("watch", r.quiet.sinceWatch, r.attacked.sinceWatch)
	}
	w.Flush()
	return out.String()
}
