// Package audit evaluates the guardrails on existing objects. It finds violations by objects that are older than
// a guardrail, that bypassed the webhook, or that violate a guardrail only together.
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
	// batchSize is the number of objects that are judged together first.
	batchSize = 64
	// effectTimeout bounds the computation of one effect.
	effectTimeout = 10 * time.Second
	// judgeTimeout bounds one evaluation of the guardrails.
	judgeTimeout = 2 * time.Second
)

// Inventory holds the objects to audit.
type Inventory struct {
	// Snapshot is the cluster; its policies are ignored in favour of the following.
	Snapshot *compile.Snapshot
	// The policies include the metadata that snapshots leave out.
	NetworkPolicies        []*networkingv1.NetworkPolicy
	ClusterNetworkPolicies []*policyv1alpha2.ClusterNetworkPolicy
}

// Finding is a violation of a guardrail by an existing object.
type Finding struct {
	AuditedObject
	rego.Violation
	// Denied is true if the guardrail denies or audits the violation, and false if it warns.
	Denied bool
}

// FindViolations evaluates the guardrails on all objects. It starts with a cluster that has no policies and
// denies everything, and adds objects in their order of precedence. Every path that is open in the end was thus
// opened by an object that was judged.
//
// Objects are judged in batches; a batch with violations is halved until single objects remain. After each
// piece of work, rest is called with its duration; it may be nil.
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

// withoutPolicies returns the cluster without policies, which denies everything except in exempt namespaces.
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

// auditRun holds the state of one audit.
type auditRun struct {
	guardrails *rego.Engine
	rest       func(context.Context, time.Duration)
	namespaces map[string]map[string]string
	findings   []Finding
}

// judgeSubjects judges objects that are added together, and halves those with violations. It returns the state
// with the objects.
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

// emptyEffect returns the effect of a change that opens and closes nothing.
func emptyEffect(ctx context.Context) effect.Effect {
	return effect.Compute(ctx, &compile.Snapshot{}, &compile.Snapshot{})
}

// hasNoViolations reports whether no guardrail is violated by the effect of several objects together.
func (r *auditRun) hasNoViolations(ctx context.Context, e effect.Effect) (bool, error) {
	result, err := r.evaluate(ctx, rego.Input{Source: rego.Audit, Request: rego.Request{Operation: "CREATE"}, Effect: e})
	return len(result.Denials)+len(result.Warnings)+len(result.Audited) == 0, err
}

// judgeSubject adds the violations by one object to the findings.
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
		return fmt.Errorf("judge %s %s/%s: %w", s.Kind, s.Namespace, s.Name, err)
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
		err = ctx.Err() // an evaluation that was cut short has no result
	}
	return result, err
}
