package admit

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/webhook/peer"
)

// replica is one of several webhooks with the same guardrails, each of which sees the cluster by a watch of its own.
type replica struct {
	*PolicyHandler
	cluster   *fakeCluster
	rechecker *Rechecker
	events    *events.FakeRecorder
	log       bytes.Buffer
}

func newReplica(t *testing.T) *replica {
	t.Helper()
	r := &replica{events: events.NewFakeRecorder(100)}
	r.PolicyHandler, r.cluster = newGuardedHandler(t)
	r.Log = slog.New(slog.NewTextHandler(&r.log, nil))
	r.rechecker = &Rechecker{Reviewer: r.Reviewer, Recorder: r.events}
	return r
}

// see has the replica's watch show these policies.
func (r *replica) see(policies ...*networkingv1.NetworkPolicy) {
	r.cluster.snapshot.NetworkPolicies = policies
}

// violations rechecks what is due, and returns how many Events were written.
func (r *replica) violations(t *testing.T) int {
	t.Helper()
	r.rechecker.recheckSettled(t.Context())
	time.Sleep(recheckDelay)
	r.rechecker.recheckSettled(t.Context())
	n := len(r.events.Events)
	for range n {
		<-r.events.Events
	}
	return n
}

// A replica does not know what another has in flight, so both deletions are admitted; what they open together is
// reported by both within seconds.
func TestParallelDeletionsByTwoReplicasAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other := newReplica(t), newReplica(t)
		counter := missedViolations.WithLabelValues("default-deny-stays")
		before := testutil.ToFloat64(counter)
		assertResponse(t, one.Handle(t.Context(), deletionRequest("a")), true, "")
		assertResponse(t, other.Handle(t.Context(), deletionRequest("b")), true, "")
		for _, r := range []*replica{one, other} {
			r.see()
			if n := r.violations(t); n != 1 || !strings.Contains(r.log.String(), "violate a guardrail together") {
				t.Errorf("%d Events; log: %s", n, r.log.String())
			}
			if n := r.violations(t); n != 0 {
				t.Errorf("reported again: %d Events", n)
			}
		}
		if n := testutil.ToFloat64(counter) - before; n != 2 {
			t.Errorf("%v violations are counted, want 2", n)
		}
	})
}

// The watch of one replica shows its own change before that of the other.
func TestAViolationIsReportedWhicheverChangeIsSeenFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newReplica(t)
		assertResponse(t, one.Handle(t.Context(), deletionRequest("a")), true, "")
		one.see(isolatingPolicy("b"))
		one.rechecker.recheckSettled(t.Context())
		one.see()
		if n := one.violations(t); n != 1 {
			t.Errorf("%d Events", n)
		}
	})
}

func TestChangesThatViolateNothingTogetherAreNotReported(t *testing.T) {
	changed := isolatingPolicy("c")
	changed.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{fromBlock("10.0.0.0/8")}
	for name, c := range map[string]struct {
		requests []admission.Request
		after    []*networkingv1.NetworkPolicy
	}{
		"one deletion alone":                       {[]admission.Request{deletionRequest("a")}, []*networkingv1.NetworkPolicy{isolatingPolicy("b")}},
		"another replica creates one that is open": {[]admission.Request{deletionRequest("a")}, []*networkingv1.NetworkPolicy{isolatingPolicy("b"), changed}},
		"the other change is this replica's own":   {[]admission.Request{deletionRequest("a"), creationRequest("c")}, []*networkingv1.NetworkPolicy{isolatingPolicy("b"), isolatingPolicy("c")}},
		"another namespace's": {[]admission.Request{deletionRequest("a")}, []*networkingv1.NetworkPolicy{isolatingPolicy("b"),
			func() *networkingv1.NetworkPolicy { p := isolatingPolicy("z"); p.Namespace = "test"; return p }()}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReplica(t)
				for _, req := range c.requests {
					assertResponse(t, r.Handle(t.Context(), req), true, "")
				}
				r.see(c.after...)
				if n := r.violations(t); n != 0 {
					t.Errorf("%d Events; log: %s", n, r.log.String())
				}
			})
		})
	}
}

// A change of the same object with another outcome, which this replica admitted and the API server refused, does not
// hide what another replica admitted.
func TestARefusedChangeDoesNotHideAnothersChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplica(t)
		assertResponse(t, r.Handle(t.Context(), newRequest("UPDATE", "NetworkPolicy", "shop", isolatingPolicy("b"), func() *networkingv1.NetworkPolicy {
			p := isolatingPolicy("b")
			p.Spec.PolicyTypes = []networkingv1.PolicyType{"Ingress", "Egress"}
			return p
		}())), true, "")
		time.Sleep(inflightLifetime + 1)
		assertResponse(t, r.Handle(t.Context(), deletionRequest("a")), true, "")
		r.see()
		if n := r.violations(t); n != 1 {
			t.Errorf("%d Events; log: %s", n, r.log.String())
		}
	})
}

func TestSettledChangesAreBounded(t *testing.T) {
	var s settledChanges
	for i := range 2*maxHandled + 1 {
		c := networkPolicies.newChange(nil, isolatingPolicy(fmt.Sprint(i)))
		s.markHandled(&inflightChange{change: c})
		s.add(&inflightChange{change: c}, time.Time{})
	}
	if len(s.changes) != maxSettled || s.dropped == 0 || len(s.handled) > maxHandled {
		t.Errorf("%d changes, %d dropped, %d handled", len(s.changes), s.dropped, len(s.handled))
	}
}

// Requests for large objects that the API server refuses later, such as by a conflict, take a bounded amount of memory,
// and the tenant who sends them leaves room for others.
func TestTrackedBytesAreBounded(t *testing.T) {
	h, _ := newGuardedHandler(t)
	large := func(namespace string, n int) change {
		p := isolatingPolicy(fmt.Sprint(n))
		p.Namespace = namespace
		c := networkPolicies.newChange(nil, p)
		c.size = 1 << 20
		return c
	}
	sender := peer.Identity{Authenticated: true}
	track := func(c change) error { _, _, err := h.inflight.track(sender, c, h.Snapshots); return err }
	admitted := 0
	for n := range maxInflight {
		if track(large("greedy", n)) == nil {
			admitted++
		}
	}
	if admitted != maxInflightBytes>>20 {
		t.Errorf("%d MiB of one namespace are tracked", admitted)
	}
	for ns := range 100 {
		for n := range 4 {
			if track(large(fmt.Sprint("crowd-", ns), n)) == nil {
				admitted++
			}
		}
	}
	if admitted != maxInflightBytesOfSender>>20 {
		t.Errorf("%d MiB of all namespaces are tracked", admitted)
	}
	small := large("modest", 0)
	small.size = 1000
	if err := track(small); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	cluster := clusterNetworkPolicies.newChange(nil, &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "deny"}})
	cluster.size = 1 << 20
	if err := track(cluster); err != nil {
		t.Errorf("an administrator: %v", err)
	}
}

func TestTrackedBytesOfAStrangerAreBounded(t *testing.T) {
	h, _ := newGuardedHandler(t)
	const size = inflightShareBytes
	admitted := 0
	for n := range 2 * maxInflightBytesOfPeer / size {
		p := isolatingPolicy("p")
		p.Namespace = fmt.Sprint("ns-", n)
		c := networkPolicies.newChange(nil, p)
		c.size = size
		if _, _, err := h.inflight.track(peer.Identity{}, c, h.Snapshots); err == nil {
			admitted++
		}
	}
	if admitted*size != maxInflightBytesOfPeer {
		t.Errorf("%d bytes of a stranger are tracked", admitted*size)
	}
	// An API server without a certificate looks the same, and what tenants have in flight does not delay an administrator.
	deny := clusterNetworkPolicies.newChange(nil, &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "deny"}})
	deny.size = size
	if _, _, err := h.inflight.track(peer.Identity{}, deny, h.Snapshots); err != nil {
		t.Errorf("an administrator: %v", err)
	}
}

func TestTheSizeOfARequestIsThatOfItsObjects(t *testing.T) {
	h, _ := newGuardedHandler(t)
	req := creationRequest("x")
	req.OldObject = runtime.RawExtension{}
	assertResponse(t, h.Handle(t.Context(), req), true, "")
	if got := h.inflight.changes[0].size; got != len(req.Object.Raw) {
		t.Errorf("size %d, want %d", got, len(req.Object.Raw))
	}
}
