// Package audit judges what exists, as admission judges what is to come. What was
// there before a guardrail, what came past the webhook, and what is harmful only
// together is found here.
package audit

import (
	"context"
	"fmt"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/rego"
)

const (
	// batchSize is how many objects are judged together at first.
	batchSize = 64
	// effectTimeout is how long one effect may take, and thought how long the guardrails may
	// think about one question.
	effectTimeout = 10 * time.Second
	judgeTimeout  = 2 * time.Second
)

// Inventory is what is audited.
type Inventory struct {
	// Snapshot is the cluster; instead of its policies, those below are.
	Snapshot *compile.Snapshot
	// The policies whole, with the metadata that snapshots do without.
	NetworkPolicies        []*networkingv1.NetworkPolicy
	ClusterNetworkPolicies []*policyv1alpha2.ClusterNetworkPolicy
}

// Finding is what a guardrail says of an object that exists.
type Finding struct {
	AuditedObject
	rego.Violation
	// Denied is true for what would be refused, were it not there already.
	Denied bool
}

// FindViolations asks the guardrails about all there is. It begins with a cluster in which
// no policy is and nothing passes, and puts into force what exists, in the order in
// which it decides, so that whatever is open in the end was opened by something. Where
// the guardrails have nothing to say of many objects together they are not asked
// about the effect of each. rest is called after each piece of work with the
// time that it took; nil does not rest.
func FindViolations(ctx context.Context, w Inventory, guardrails *rego.Engine, rest func(context.Context, time.Duration)) ([]Finding, error) {
	r := auditRun{guardrails: guardrails, rest: rest}
	if rest == nil {
		r.rest = func(context.Context, time.Duration) {}
	}
	state, all := withoutPolicies(w), auditSubjects(w)
	r.namespaces = namespaceLabels(w.Snapshot)
	for part := range slices.Chunk(all, batchSize) {
		var err error
		if state, err = r.judgeSubjects(ctx, state, part); err != nil {
			return nil, fmt.Errorf("audit what exists: %w", err)
		}
	}
	return r.findings, nil
}

// withoutPolicies is the cluster without policies, closed but for exempt namespaces.
func withoutPolicies(w Inventory) *compile.Snapshot {
	s := *w.Snapshot
	s.ClusterNetworkPolicies, s.NetworkPolicies = nil, nil
	for _, np := range w.NetworkPolicies {
		if slices.Contains(s.Defaults.Exempt, np.Namespace) {
			s.NetworkPolicies = append(s.NetworkPolicies, np)
		}
	}
	s.Defaults = policy.Defaults{Action: policy.Deny, Exempt: s.Defaults.Exempt, Namespaces: map[string]policy.Verdict{}}
	return &s
}

func namespaceLabels(s *compile.Snapshot) map[string]map[string]string {
	out := make(map[string]map[string]string, len(s.Namespaces))
	for _, n := range s.Namespaces {
		out[n.Name] = n.Labels
	}
	return out
}

// auditRun is one audit.
type auditRun struct {
	guardrails *rego.Engine
	rest       func(context.Context, time.Duration)
	namespaces map[string]map[string]string
	findings   []Finding
}

// judgeSubjects asks about objects that are put into force together, and again about
// each half of them where there is something to say. It returns the state with them.
func (r *auditRun) judgeSubjects(ctx context.Context, before *compile.Snapshot, some []subject) (*compile.Snapshot, error) {
	start := time.Now()
	after := applySubjects(before, some)
	e := effectOf(ctx, before, after)
	r.rest(ctx, time.Since(start))
	quiet, err := r.hasNoViolations(ctx, e)
	if err != nil {
		return nil, err
	}
	switch {
	case quiet:
		nothing := emptyEffect(ctx)
		for _, s := range some {
			if err := r.judgeSubject(ctx, s, nothing); err != nil {
				return nil, err
			}
		}
	case len(some) == 1:
		return after, r.judgeSubject(ctx, some[0], e)
	default:
		half, err := r.judgeSubjects(ctx, before, some[:len(some)/2])
		if err != nil {
			return nil, err
		}
		return r.judgeSubjects(ctx, half, some[len(some)/2:])
	}
	return after, nil
}

func applySubjects(before *compile.Snapshot, some []subject) *compile.Snapshot {
	after := *before
	for _, s := range some {
		if s.apply != nil {
			s.apply(&after)
		}
	}
	return &after
}

func effectOf(ctx context.Context, before, after *compile.Snapshot) effect.Effect {
	ctx, cancel := context.WithTimeout(ctx, effectTimeout)
	defer cancel()
	return effect.Compute(ctx, before, after)
}

// emptyEffect is the effect of what opens and closes nothing.
func emptyEffect(ctx context.Context) effect.Effect {
	return effect.Compute(ctx, &compile.Snapshot{}, &compile.Snapshot{})
}

// hasNoViolations reports whether no guardrail has anything to say of what several objects open together.
func (r *auditRun) hasNoViolations(ctx context.Context, e effect.Effect) (bool, error) {
	result, err := r.evaluate(ctx, rego.Input{Source: rego.Audit, Request: rego.Request{Operation: "CREATE"}, Effect: e})
	return len(result.Denials)+len(result.Warnings)+len(result.Audited) == 0, err
}

// judgeSubject takes in what the guardrails say of one object.
func (r *auditRun) judgeSubject(ctx context.Context, s subject, e effect.Effect) error {
	object, err := s.marshalObject()
	if err != nil {
		return err
	}
	group, version := s.groupVersion()
	result, err := r.evaluate(ctx, rego.Input{
		Source: rego.Audit,
		Request: rego.Request{Operation: "CREATE", Namespace: s.Namespace, Name: s.Name,
			Kind: rego.GroupVersionKind{Group: group, Version: version, Kind: s.Kind}},
		Object:    object,
		Namespace: rego.Namespace{Name: s.ownNamespace(), Labels: r.namespaces[s.ownNamespace()]},
		Effect:    e,
	})
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", s.Kind, s.Namespace, s.Name, err)
	}
	for _, v := range slices.Concat(result.Denials, result.Audited) {
		r.findings = append(r.findings, Finding{s.AuditedObject, v, true})
	}
	for _, v := range result.Warnings {
		r.findings = append(r.findings, Finding{s.AuditedObject, v, false})
	}
	return nil
}

func (r *auditRun) evaluate(ctx context.Context, in rego.Input) (rego.Result, error) {
	start := time.Now()
	defer func() { r.rest(ctx, time.Since(start)) }()
	limited, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	result, err := r.guardrails.Judge(limited, in)
	if err == nil {
		err = ctx.Err() // an answer that was cut short is none
	}
	return result, err
}
