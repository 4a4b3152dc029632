package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/rego"
)

const (
	// maxResults bounds the results in a Guardrail's status.
	maxResults = 20
	// maxMessage bounds the bytes of a result's message and of an Event's note.
	maxMessage = 1000
	// maxEvents bounds the Events that one audit writes.
	maxEvents = 50
)

// eventSet holds the findings that Events were written for.
type eventSet map[eventKey]bool

// eventKey identifies a finding by guardrail, object and message.
type eventKey struct{ guardrail, object, text string }

// writeStatuses writes the findings to the status of the Guardrails, to the metrics, and to Events. If
// other guardrails came into force during the audit, it does nothing; the next audit will.
func (a *Auditor) writeStatuses(ctx context.Context, findings []Finding, asked *rego.Engine) error {
	by := map[string][]Finding{}
	for _, f := range findings {
		by[f.Guardrail] = append(by[f.Guardrail], f)
	}
	var list v1alpha1.GuardrailList
	if err := a.Client.List(ctx, &list); err != nil {
		return fmt.Errorf("list Guardrails: %w", err)
	}
	if a.Guardrails.InForce() != asked {
		return nil
	}
	if a.reportedEvents == nil {
		a.reportedEvents = eventsInStatus(list.Items)
	}
	a.writeEvents(findings)
	violations.Reset()
	var errs []error
	for i := range list.Items {
		g := &list.Items[i]
		violations.WithLabelValues(g.Name, string(g.Spec.Enforcement)).Set(float64(len(by[g.Name])))
		state, ok := a.Guardrails.State(g.UID)
		if !ok || state.InForce == 0 {
			continue
		}
		old := g.DeepCopy()
		g.Status.Audit = &v1alpha1.Audit{Generation: state.InForce, Violations: int32(len(by[g.Name])), Results: statusResults(by[g.Name])}
		errs = append(errs, a.patchStatus(ctx, old, g))
	}
	return errors.Join(errs...)
}

func (a *Auditor) patchStatus(ctx context.Context, old, now *v1alpha1.Guardrail) error {
	patch := client.MergeFrom(old)
	data, err := patch.Data(now)
	if err != nil {
		return fmt.Errorf("compare the status of Guardrail %s: %w", now.Name, err)
	}
	if string(data) == "{}" {
		return nil
	}
	err = a.Client.Status().Patch(ctx, now, patch)
	if err = client.IgnoreNotFound(err); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("write the status of Guardrail %s: %w", now.Name, err)
	}
	return nil
}

func statusResults(findings []Finding) []v1alpha1.AuditResult {
	var out []v1alpha1.AuditResult
	for _, f := range findings[:min(maxResults, len(findings))] {
		out = append(out, v1alpha1.AuditResult{Kind: f.Kind, Namespace: f.Namespace, Name: f.Name, Path: f.Path, Message: truncateMessage(f.Message)})
	}
	return out
}

func truncateMessage(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	const more = "…"
	return strings.ToValidUTF8(text[:maxMessage-len(more)], "") + more
}

func (f Finding) eventKeyOf() eventKey {
	return eventKey{f.Guardrail, f.Kind + " " + f.Namespace + "/" + f.Name, truncateMessage(f.Message)}
}

// eventsInStatus returns the findings in the statuses, which an earlier leader wrote Events for.
func eventsInStatus(guardrails []v1alpha1.Guardrail) eventSet {
	out := eventSet{}
	for _, g := range guardrails {
		if g.Status.Audit == nil {
			continue
		}
		for _, r := range g.Status.Audit.Results {
			out[eventKey{g.Name, r.Kind + " " + r.Namespace + "/" + r.Name, r.Message}] = true
		}
	}
	return out
}

// writeEvents writes an Event for each new finding.
func (a *Auditor) writeEvents(findings []Finding) {
	now, written := eventSet{}, 0
	for _, f := range findings {
		key := f.eventKeyOf()
		now[key] = true
		if a.reportedEvents[key] || written == maxEvents {
			continue
		}
		written++
		regarding := &corev1.ObjectReference{APIVersion: f.APIVersion, Kind: f.Kind, Namespace: f.Namespace, Name: f.Name, UID: f.UID}
		a.Recorder.Eventf(regarding, nil, corev1.EventTypeWarning, "GuardrailViolated", "Audit", "%s", truncateMessage("Guardrail "+f.Guardrail+": "+f.Message))
	}
	a.reportedEvents = now
}
