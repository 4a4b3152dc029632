package main

import (
	stdbytes "bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/test/bench/usage"
	"github.com/tierwall/tierwall/test/bench/workload"
	"github.com/tierwall/tierwall/webhook/admit"
	"github.com/tierwall/tierwall/webhook/guardrails"
	"github.com/tierwall/tierwall/webhook/snapshot"
)

// rounds is how many requests of each kind are timed.
const rounds = 200

// admissions prints what a request to the webhook costs above one that does nothing, by the same client and
// in the same run, in time and in the processor's, with every guardrail of the library in force. Between two requests a pod of the cluster changes.
func admissions(ctx context.Context) error {
	ctrllog.SetLogger(logr.Discard())
	guardrails := library()
	t := newTable(fmt.Sprint(len(guardrails), " guardrails"), "pods", "policies", "p50", "above no-op", "p99", "processor", "above no-op")
	small := workload.Town{Pods: 1, Policies: 1}
	if err := inTurn(t, newRequest(ctx, "text only", small, annotated, guardrails)); err != nil {
		return err
	}
	var cases []*request
	for _, size := range []workload.Town{{Pods: 1000, Policies: 200}, {Pods: 10_000, Policies: 1000}} {
		cases = append(cases,
			newRequest(ctx, "policy within its namespace", size, inside, guardrails),
			newRequest(ctx, "policy to half of the namespaces", size, across, guardrails),
			newRequest(ctx, "policy deleted", size, deleted, guardrails))
	}
	if err := inTurn(t, cases...); err != nil {
		return err
	}
	t.print(os.Stdout)
	return nil
}

// inTurn times requests, which take turns with one that does nothing so that all see the same machine, and adds
// them to the table.
func inTurn(t *table, cases ...*request) error {
	floor := &request{name: "no-op", reviews: reviews(workload.Town{Pods: 1, Policies: 1}, annotated),
		handler: admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Allowed("") })}
	cases = append([]*request{floor}, cases...)
	for range rounds {
		for _, c := range cases {
			if err := c.time(); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	least, idle := median(floor.took), floor.busy/rounds
	for _, c := range cases {
		middle, busy := median(c.took), c.busy/rounds
		t.add(c.name, c.pods, c.policies, middle, middle-least, c.took[len(c.took)*99/100], busy, busy-idle)
	}
	return nil
}

// request is a kind of request that is timed.
type request struct {
	name           string
	pods, policies int
	handler        admission.Handler
	reviews        [][]byte
	server         *httptest.Server
	next           int
	took           []time.Duration
	busy           time.Duration // of the processor, client and collection of garbage included
}

func (r *request) time() error {
	if r.server == nil {
		r.server = httptest.NewServer(&admission.Webhook{Handler: r.handler})
	}
	start, busy := time.Now(), processor()
	answer, err := http.Post(r.server.URL, "application/json", stdbytes.NewReader(r.reviews[r.next%len(r.reviews)]))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	r.took, r.busy = append(r.took, time.Since(start)), r.busy+processor()-busy
	r.next++
	review := &admissionv1.AdmissionReview{}
	if err := json.Unmarshal(body, review); err != nil {
		return err
	}
	if review.Response == nil || review.Response.Result != nil && review.Response.Result.Code == http.StatusInternalServerError {
		return fmt.Errorf("not judged: %s", body)
	}
	return nil
}

func newRequest(ctx context.Context, name string, size workload.Town, change func(*networkingv1.NetworkPolicy) (before, after *networkingv1.NetworkPolicy), guardrails []*v1alpha1.Guardrail) *request {
	return &request{name: name, pods: size.Pods, policies: size.Policies,
		handler: handler(ctx, &restless{states: states(size)}, guardrails), reviews: reviews(size, change)}
}

// processor is the time of the processor that this process has had: what else the machine does matters less to it.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // of this process it cannot fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func library() []*v1alpha1.Guardrail {
	var out []*v1alpha1.Guardrail
	for _, e := range rego.Library() {
		out = append(out, &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: e.Name, UID: types.UID(e.Name), Generation: 1},
			Spec: v1alpha1.GuardrailSpec{Library: e.Name}})
	}
	return out
}

// handler is the webhook's of policies, with the guardrails in force.
func handler(ctx context.Context, s snapshot.SnapshotReader, inForce []*v1alpha1.Guardrail) *admit.PolicyHandler {
	log := slog.New(slog.DiscardHandler)
	store := guardrails.NewGuardrailStore(nil, log)
	store.Load(ctx, inForce)
	return &admit.PolicyHandler{Decoder: admission.NewDecoder(clustercache.Scheme()), Reviewer: &admit.Reviewer{Snapshots: s, Guardrails: store,
		Terminating: func(context.Context, string) (bool, error) { return false, nil }, Limit: 8 * time.Second, Log: log}}
}

// restless is a cluster in which a pod changes between any two requests, each of which looks twice.
type restless struct {
	states [2]*compile.Snapshot
	looks  atomic.Int64
}

func states(size workload.Town) [2]*compile.Snapshot {
	one := size.Snapshot()
	other := compile.Snapshot{Defaults: one.Defaults, // with lists of its own, as a watch makes them
		Pods: slices.Clone(one.Pods), Namespaces: slices.Clone(one.Namespaces), Nodes: slices.Clone(one.Nodes),
		NetworkPolicies: slices.Clone(one.NetworkPolicies), ClusterNetworkPolicies: slices.Clone(one.ClusterNetworkPolicies), TierRoles: slices.Clone(one.TierRoles)}
	moved := *one.Pods[0]
	moved.Labels = map[string]string{"app": "other"}
	other.Pods[0] = &moved
	return [2]*compile.Snapshot{one, &other}
}

func (r *restless) Snapshot() *compile.Snapshot { return r.states[r.looks.Add(1)/2%2] }

func (*restless) Synced() bool { return true }

func (*restless) Next() <-chan struct{} { return nil }

// reviews are dry runs of the change, of policies in several namespaces.
func reviews(size workload.Town, change func(*networkingv1.NetworkPolicy) (before, after *networkingv1.NetworkPolicy)) [][]byte {
	var out [][]byte
	dry := true
	for i := range min(20, size.Policies) {
		before, after := change(size.Policy(i))
		r := &admissionv1.AdmissionRequest{UID: "1", Operation: admissionv1.Create, Kind: metav1.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"}, DryRun: &dry}
		for object, into := range map[*networkingv1.NetworkPolicy]*k8sruntime.RawExtension{before: &r.OldObject, after: &r.Object} {
			if object == nil {
				continue
			}
			object.TypeMeta = metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}
			r.Namespace, r.Name = object.Namespace, object.Name
			into.Raw = marshalled(object)
		}
		switch {
		case after == nil:
			r.Operation = admissionv1.Delete
		case before != nil:
			r.Operation = admissionv1.Update
		}
		out = append(out, marshalled(&admissionv1.AdmissionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: r}))
	}
	return out
}

func marshalled(o any) []byte {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err) // they are made here
	}
	return text
}

// annotated changes nothing but an annotation.
func annotated(np *networkingv1.NetworkPolicy) (before, after *networkingv1.NetworkPolicy) {
	after = np.DeepCopy()
	after.Annotations = map[string]string{"tierwall.io/owner": "somebody"}
	return np, after
}

func deleted(np *networkingv1.NetworkPolicy) (before, after *networkingv1.NetworkPolicy) {
	return np, nil
}

// inside is a new policy that lets one part of the application reach another on one more port.
func inside(np *networkingv1.NetworkPolicy) (before, after *networkingv1.NetworkPolicy) {
	after = np.DeepCopy()
	after.Name += "-more"
	port := intstr.FromInt32(9999)
	after.Spec.Ingress, after.Spec.Egress = after.Spec.Ingress[:1], nil
	after.Spec.Ingress[0].Ports = []networkingv1.NetworkPolicyPort{{Port: &port}}
	return nil, after
}

// across is a new policy that does so for pods of half of the namespaces.
func across(np *networkingv1.NetworkPolicy) (before, after *networkingv1.NetworkPolicy) {
	_, after = inside(np)
	after.Spec.Ingress[0].From = np.Spec.Egress[1].To
	return nil, after
}

// beWebhook is a webhook, all but its server and its leader's work: it judges policies
// of the town for a while, says what memory it needs and ends.
func beWebhook(ctx context.Context, url string, size workload.Town) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	watcher, err := clustercache.New(&rest.Config{Host: url}, policy.Defaults{Action: policy.Deny, Exempt: []string{"kube-system"}}, log)
	if err != nil {
		return err
	}
	broadcaster := snapshot.NewSnapshotBroadcaster(watcher)
	ended := make(chan error, 2)
	go func() { ended <- watcher.Start(ctx) }()
	go func() { ended <- broadcaster.Start(ctx) }()
	if err := watcher.WaitForSync(ctx); err != nil {
		return err
	}
	synced := time.Since(start)
	judge := &admission.Webhook{Handler: handler(ctx, broadcaster, library())}
	for _, change := range []func(*networkingv1.NetworkPolicy) (before, after *networkingv1.NetworkPolicy){inside, across, deleted} {
		for _, r := range reviews(size, change) {
			review := &admissionv1.AdmissionReview{}
			if err := json.Unmarshal(r, review); err != nil {
				return err
			}
			judge.Handle(ctx, admission.Request{AdmissionRequest: *review.Request})
		}
	}
	u, err := usage.Measure(synced)
	if err != nil {
		return err
	}
	runtime.KeepAlive(judge)
	cancel()
	return errors.Join(json.NewEncoder(os.Stdout).Encode(u), <-ended, <-ended)
}
