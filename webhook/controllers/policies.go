package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	applyv1alpha2 "sigs.k8s.io/network-policy-api/pkg/client/applyconfiguration/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

const (
	// Understood is the type of the condition that reports whether a ClusterNetworkPolicy is fully understood.
	Understood = "tierwall.io/Understood"
	// FieldManager owns the conditions that tierwall writes (KEP-555).
	FieldManager = "tierwall-webhook"
)

// The reasons of the condition and of Events.
const (
	reasonUnderstood    = "Understood"
	reasonNotUnderstood = "NotUnderstood"
)

// reportedProblems holds the problems that Events were written for.
type reportedProblems struct {
	// networkPolicies are the validated policies, by UID.
	networkPolicies map[types.UID]policyProblems
	// clusterNetworkPolicies are the problem texts, by UID.
	clusterNetworkPolicies map[types.UID]string
}

// policyProblems is a validated policy, which is never modified, and its problem text.
type policyProblems struct {
	policy   *networkingv1.NetworkPolicy
	problems string
}

// reportNetworkPolicies writes Events about problems of NetworkPolicies, which have no status. Each leader
// writes them when they change, and once at its start.
func (l *Reconciler) reportNetworkPolicies(snapshot *compile.Snapshot) {
	now, bad := make(map[types.UID]policyProblems, len(snapshot.NetworkPolicies)), 0
	for _, np := range snapshot.NetworkPolicies {
		r := l.reported.networkPolicies[np.UID]
		if r.policy != np {
			before := r.problems
			r = policyProblems{np, problemText(compile.ValidateNetworkPolicy(np))}
			l.writeEvent(np, before, r.problems)
		}
		now[np.UID] = r
		if r.problems != "" {
			bad++
		}
	}
	l.reported.networkPolicies = now
	notUnderstood.WithLabelValues(compile.NetworkPolicyKind).Set(float64(bad))
}

// updateClusterNetworkPolicies writes the problems of ClusterNetworkPolicies to their status, and Events
// when the problems change.
func (l *Reconciler) updateClusterNetworkPolicies(ctx context.Context) error {
	list := &policyv1alpha2.ClusterNetworkPolicyList{}
	if err := l.listObjects(ctx, list); err != nil {
		return err
	}
	now, bad := make(map[types.UID]string, len(list.Items)), 0
	err := forEach(list.Items, func(p *policyv1alpha2.ClusterNetworkPolicy) error {
		problems := problemText(compile.ValidateClusterNetworkPolicy(p))
		before, known := l.reported.clusterNetworkPolicies[p.UID]
		if !known { // what the leader before this one told
			before = problemsInStatus(p.Status.Conditions)
		}
		l.writeEvent(p, before, problems)
		now[p.UID] = problems
		if problems != "" {
			bad++
		}
		return l.writeUnderstood(ctx, p, problems)
	})
	l.reported.clusterNetworkPolicies = now
	notUnderstood.WithLabelValues(compile.ClusterNetworkPolicyKind).Set(float64(bad))
	return err
}

// writeEvent writes an Event on a policy whose problems changed.
func (l *Reconciler) writeEvent(p client.Object, before, now string) {
	switch {
	case before == now:
	case now == "":
		l.Recorder.Eventf(p, nil, corev1.EventTypeNormal, reasonUnderstood, "Compile", understoodText)
	default:
		l.Recorder.Eventf(p, nil, corev1.EventTypeWarning, reasonNotUnderstood, "Compile", "%s", now)
	}
}

const understoodText = "every field is understood"

func understoodCondition(p *policyv1alpha2.ClusterNetworkPolicy, problems string) metav1.Condition {
	c := metav1.Condition{Type: Understood, ObservedGeneration: p.Generation,
		Status: metav1.ConditionTrue, Reason: reasonUnderstood, Message: understoodText}
	if problems != "" {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonNotUnderstood, problems
	}
	return c
}

// problemsInStatus returns the problem text in the conditions.
func problemsInStatus(conditions []metav1.Condition) string {
	if c := meta.FindStatusCondition(conditions, Understood); c != nil && c.Status == metav1.ConditionFalse {
		return c.Message
	}
	return ""
}

// writeUnderstood writes the condition if it changed. Server-side apply keeps the conditions of others.
func (l *Reconciler) writeUnderstood(ctx context.Context, p *policyv1alpha2.ClusterNetworkPolicy, problems string) error {
	conditions := slices.Clone(p.Status.Conditions)
	if !meta.SetStatusCondition(&conditions, understoodCondition(p, problems)) {
		return nil
	}
	c := meta.FindStatusCondition(conditions, Understood)
	status := applyv1alpha2.ClusterNetworkPolicyStatus().WithConditions(applymetav1.Condition().
		WithType(c.Type).WithStatus(c.Status).WithReason(c.Reason).WithMessage(c.Message).
		WithObservedGeneration(c.ObservedGeneration).WithLastTransitionTime(c.LastTransitionTime))
	err := l.Client.Status().Apply(ctx, applyv1alpha2.ClusterNetworkPolicy(p.Name).WithUID(p.UID).WithStatus(status),
		client.FieldOwner(FieldManager), client.ForceOwnership)
	if err = client.IgnoreNotFound(err); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("write the status of ClusterNetworkPolicy %s: %w", p.Name, err)
	}
	return nil
}

// Bounds of a problem text, which must fit in the 1024 bytes of an Event's note.
const (
	maxProblems    = 5
	maxProblemText = 1000
)

// problemText returns the first problems with their fields, or an empty text.
func problemText(problems []policy.Problem) string {
	if len(problems) == 0 {
		return ""
	}
	var words []string
	for _, p := range problems[:min(maxProblems, len(problems))] {
		words = append(words, p.ID.Field+": "+p.Message)
	}
	if more := len(problems) - maxProblems; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	text := "what is not understood fails closed: " + strings.Join(words, "; ")
	if len(text) > maxProblemText {
		text = strings.ToValidUTF8(text[:maxProblemText], "") + "…"
	}
	return text
}
