//go:build admission

package admission

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/test/apiserver"
)

// older is a policy from before tierwall, with a rule that the compiler does not understand.
func older() *policyv1alpha2.ClusterNetworkPolicy {
	return &policyv1alpha2.ClusterNetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "older"},
		Spec: policyv1alpha2.ClusterNetworkPolicySpec{Tier: policyv1alpha2.AdminTier, Priority: 900,
			Subject: policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{MatchLabels: map[string]string{"older": "true"}}},
			Egress: []policyv1alpha2.ClusterNetworkPolicyEgressRule{{Action: policyv1alpha2.ClusterNetworkPolicyRuleActionAccept,
				To: []policyv1alpha2.ClusterNetworkPolicyEgressPeer{{DomainNames: []policyv1alpha2.DomainName{"example.com"}}}}}},
	}
}

// understood checks the condition of a ClusterNetworkPolicy, whose newest version it reads.
func understood(ctx context.Context, p *policyv1alpha2.ClusterNetworkPolicy, status metav1.ConditionStatus, reason, message string) error {
	if err := world.admin.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
		return err
	}
	c := meta.FindStatusCondition(p.Status.Conditions, "tierwall.io/Understood")
	if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != p.Generation || !strings.Contains(c.Message, message) {
		return fmt.Errorf("condition %+v of generation %d, want %s, %s, %q", c, p.Generation, status, reason, message)
	}
	return nil
}

// eventsOn are the Events about an object as type, reason and note, but for those of
// the audit.
func eventsOn(ctx context.Context, namespace string, uid types.UID) ([]string, error) {
	list := &eventsv1.EventList{}
	if err := world.admin.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var out []string
	for _, e := range list.Items {
		if e.Regarding.UID == uid && e.Reason != "GuardrailViolated" {
			out = append(out, e.Type+" "+e.Reason+" "+e.Note)
		}
	}
	return out, nil
}

// told checks that there is one Event about an object with the text, and how many there are in all.
func told(ctx context.Context, namespace string, uid types.UID, text string, all int) error {
	events, err := eventsOn(ctx, namespace, uid)
	if err != nil {
		return err
	}
	found := 0
	for _, e := range events {
		if strings.Contains(e, text) {
			found++
		}
	}
	if found != 1 || len(events) != all {
		return fmt.Errorf("Events %q, want %d, one of them with %q", events, all, text)
	}
	return nil
}

func counts(t *testing.T, kind string, n int) error {
	t.Helper()
	line := fmt.Sprintf("tierwall_policies_not_understood{kind=%q} %d", kind, n)
	if status, body := metrics(t, apiserver.Admin); status != http.StatusOK || !strings.Contains(body, line) {
		return fmt.Errorf("status %d, want a metric %s", status, line)
	}
	return nil
}

func TestProblemsOfClusterPoliciesAreInTheirStatus(t *testing.T) {
	ctx := t.Context()
	p := older()
	becomes(t, "told", func() error {
		return understood(ctx, p, metav1.ConditionFalse, "NotUnderstood", "/spec/egress/0/to/0/domainNames")
	})
	becomes(t, "told in an Event", func() error { return told(ctx, "default", p.UID, "Warning NotUnderstood", 1) })
	becomes(t, "counted", func() error { return counts(t, "ClusterNetworkPolicy", 1) })

	foreign := metav1.Condition{Type: "example.com/Programmed", Status: metav1.ConditionTrue, Reason: "Programmed", LastTransitionTime: metav1.Now()}
	t.Run("the conditions of others stay", func(t *testing.T) {
		p.Status.Conditions = append(p.Status.Conditions, foreign)
		if err := world.admin.Status().Update(ctx, p); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("what others remove comes back", func(t *testing.T) {
		p.Status.Conditions = []metav1.Condition{foreign}
		if err := world.admin.Status().Update(ctx, p); err != nil {
			t.Fatal(err)
		}
		becomes(t, "told again", func() error { return understood(ctx, p, metav1.ConditionFalse, "NotUnderstood", "domainNames") })
	})
	t.Run("mended", func(t *testing.T) {
		mended := older().Spec
		mended.Egress[0].To[0] = policyv1alpha2.ClusterNetworkPolicyEgressPeer{Networks: []policyv1alpha2.CIDR{"192.0.2.0/24"}}
		becomes(t, "updated", func() error {
			if err := world.admin.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
				return err
			}
			p.Spec = mended
			return world.admin.Update(ctx, p)
		})
		becomes(t, "told", func() error { return understood(ctx, p, metav1.ConditionTrue, "Understood", "every field") })
		becomes(t, "told in an Event", func() error { return told(ctx, "default", p.UID, "Normal Understood", 2) })
		becomes(t, "counted", func() error { return counts(t, "ClusterNetworkPolicy", 0) })
	})
	if meta.FindStatusCondition(p.Status.Conditions, foreign.Type) == nil {
		t.Errorf("conditions %+v, want %s among them", p.Status.Conditions, foreign.Type)
	}
}

// An exempt namespace is not asked about, but its owner can be told.
func TestProblemsOfPoliciesAreInEvents(t *testing.T) {
	ctx := t.Context()
	if err := makeNamespace(ctx, "kube-system"); err != nil {
		t.Fatal(err)
	}
	p := toTier("kube-system", "without-direction", "data", fromTier("backend"))
	p.Spec.PolicyTypes = []networkingv1.PolicyType{"Egress"}
	create(t, p)
	becomes(t, "told", func() error { return told(ctx, "kube-system", p.UID, "Warning NotUnderstood", 1) })
	becomes(t, "counted", func() error { return counts(t, "NetworkPolicy", 1) })
	p.Labels = map[string]string{"a": "b"} // news that is none
	if err := world.admin.Update(ctx, p); err != nil {
		t.Fatal(err)
	}
	p.Spec.PolicyTypes = []networkingv1.PolicyType{"Ingress"}
	if err := world.admin.Update(ctx, p); err != nil {
		t.Fatal(err)
	}
	becomes(t, "mended", func() error { return told(ctx, "kube-system", p.UID, "Normal Understood", 2) })
	becomes(t, "counted", func() error { return counts(t, "NetworkPolicy", 0) })
}
