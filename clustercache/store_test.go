package clustercache

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/policy/compile"
)

// newsOf reports whether the watcher has news for its reader, and takes them.
func newsOf(w *Watcher) bool {
	select {
	case <-w.Changed():
		return true
	default:
		return false
	}
}

func unstarted() *Watcher {
	w := &Watcher{changed: make(chan struct{}, 1), attachments: map[types.NamespacedName]attached{}}
	w.kinds = newKinds(w)
	return w
}

func named(name string) *corev1.Pod {
	p := web()
	p.Name = name
	return p
}

// A change that policy does not depend on must not wake the compiler.
func TestOnlyWhatPolicyDependsOnIsAChange(t *testing.T) {
	t.Run("for who looks at snapshots", func(t *testing.T) { onlyWhatPolicyDependsOn(t, unstarted()) })
	t.Run("for who takes updates", func(t *testing.T) {
		w := unstarted()
		w.Take()
		onlyWhatPolicyDependsOn(t, w)
	})
}

func onlyWhatPolicyDependsOn(t *testing.T, w *Watcher) {
	relabelled, heartbeat := web(), web()
	relabelled.Labels = map[string]string{"app": "db"}
	heartbeat.ResourceVersion, heartbeat.Annotations = "9", map[string]string{"beat": "9"}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "np"}}
	annotated, other := np.DeepCopy(), np.DeepCopy()
	annotated.Annotations = map[string]string{"a": "b"}
	other.Spec.PolicyTypes = []networkingv1.PolicyType{"Egress"}
	for _, step := range []struct {
		what    string
		do      func() error
		changes bool
	}{
		{"first seen", func() error { return w.kinds.pods.Add(web()) }, true},
		{"seen again", func() error { return w.kinds.pods.Update(web()) }, false},
		{"heartbeat", func() error { return w.kinds.pods.Update(heartbeat) }, false},
		{"relabelled", func() error { return w.kinds.pods.Update(relabelled) }, true},
		{"gone", func() error { return w.kinds.pods.Delete(web()) }, true},
		{"gone again", func() error { return w.kinds.pods.Delete(web()) }, false},
		{"a policy", func() error { return w.kinds.networkPolicies.Add(np) }, true},
		{"a policy with an annotation", func() error { return w.kinds.networkPolicies.Update(annotated) }, false},
		{"a policy with another spec", func() error { return w.kinds.networkPolicies.Update(other) }, true},
		{"all as it is", func() error { return w.kinds.networkPolicies.Replace([]any{other}, "") }, false},
		{"all gone", func() error { return w.kinds.networkPolicies.Replace(nil, "") }, true},
	} {
		before := w.Snapshot()
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := newsOf(w); got != step.changes {
			t.Errorf("%s: changed is %v, want %v", step.what, got, step.changes)
		}
		if renewed := w.Snapshot() != before; renewed != step.changes {
			t.Errorf("%s: a new snapshot is %v, want %v", step.what, renewed, step.changes)
		}
	}
}

// names are the pods of an update with whether they are there.
func names(u *compile.Update) map[string]bool {
	out := map[string]bool{}
	for key, p := range u.Pods {
		out[key.Name] = p != nil
	}
	return out
}

func TestTakeGivesEverythingOnceAndThenWhatChanged(t *testing.T) {
	w := unstarted()
	pods := w.kinds.pods
	take := func(what string, do []error, want map[string]bool) {
		t.Helper()
		for _, err := range do {
			if err != nil {
				t.Fatal(err)
			}
		}
		got := names(w.Take())
		if len(got) != len(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		for name, there := range want {
			if now, told := got[name]; !told || now != there {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
	}
	take("at first", []error{pods.Add(named("a")), pods.Add(named("b")), pods.Delete(named("b")), pods.Add(named("c"))}, map[string]bool{"a": true, "c": true})
	take("nothing happened", nil, nil)
	relabelled := named("a")
	relabelled.Labels = nil
	take("a and d", []error{pods.Update(relabelled), pods.Update(named("c")), pods.Add(named("d"))}, map[string]bool{"a": true, "d": true})
	take("c went", []error{pods.Delete(named("c"))}, map[string]bool{"c": false})
	take("all anew, as after a watch that broke", []error{pods.Replace([]any{relabelled, named("e")}, "")}, map[string]bool{"d": false, "e": true})
}

func TestWhatIsNotOfTheKindIsRefused(t *testing.T) {
	w := unstarted()
	for _, err := range []error{w.kinds.pods.Add(&corev1.Node{}), w.kinds.pods.Delete("a"), w.kinds.pods.Replace([]any{1}, "")} {
		if err == nil {
			t.Error("taken as a pod")
		}
	}
	if w.kinds.pods.seen() {
		t.Error("seen, though nothing was understood")
	}
}

// What a reader has taken is packed, and can still be looked at.
func TestPoliciesThatWereTakenAreStillInTheSnapshot(t *testing.T) {
	w := unstarted()
	port, udp := intstr.FromString("dns"), corev1.ProtocolUDP
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "np"}, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"b": "", "a": "1"}},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{}, {
			From:  []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}, {IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8"}}, {}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: &port, Protocol: &udp}, {}}}},
	}}
	if err := w.kinds.networkPolicies.Add(np); err != nil {
		t.Fatal(err)
	}
	if taken := w.Take().NetworkPolicies; len(taken) != 1 {
		t.Fatalf("taken: %v", taken)
	}
	other := np.DeepCopy()
	other.Name = "other"
	if err := w.kinds.networkPolicies.Add(other); err != nil {
		t.Fatal(err)
	}
	for _, got := range w.Snapshot().NetworkPolicies {
		if !equality.Semantic.DeepEqual(got.Spec, np.Spec) || got.Namespace != "prod" || got.Name != "np" && got.Name != "other" {
			t.Errorf("%+v, want %+v", got, np)
		}
	}
	if got := w.Take().NetworkPolicies; len(got) != 1 || len(w.Snapshot().NetworkPolicies) != 2 {
		t.Errorf("%d policies in the update, %d in the snapshot", len(got), len(w.Snapshot().NetworkPolicies))
	}
}
