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
	// atOnce is how many objects are judged together at first.
	atOnce = 64
	// patience is how long one effect may take, and thought how long the guardrails may
	// think about one question.
	patience = 10 * time.Second
	thought  = 2 * time.Second
)

// World is what is audited.
type World struct {
	// Snapshot is the cluster; instead of its policies, those below are.
	Snapshot *compile.Snapshot
	// The policies whole, with the metadata that snapshots do without.
	NetworkPolicies        []*networkingv1.NetworkPolicy
	ClusterNetworkPolicies []*policyv1alpha2.ClusterNetworkPolicy
}

// Finding is what a guardrail says of an object that exists.
type Finding struct {
	Object
	rego.Violation
	// Denied is true for what would be refused, were it not there already.
	Denied bool
}

// Judge asks the guardrails about all there is. It begins with a cluster in which
// no policy is and nothing passes, and puts into force what exists, in the order in
// which it decides, so that whatever is open in the end was opened by something. Where
// the guardrails have nothing to say of many objects together they are not asked
// about the effect of each. rest is called after each piece of work with the
// time that it took; nil does not rest.
func Judge(ctx context.Context, w World, guardrails *rego.Engine, rest func(context.Context, time.Duration)) ([]Finding, error) {
	r := run{guardrails: guardrails, rest: rest}
	if rest == nil {
		r.rest = func(context.Context, time.Duration) {}
	}
	state, all := nothing(w), subjects(w)
	r.namespaces = labelsOf(w.Snapshot)
	for part := range slices.Chunk(all, atOnce) {
		var err error
		if state, err = r.judge(ctx, state, part); err != nil {
			return nil, fmt.Errorf("audit what exists: %w", err)
		}
	}
	return r.findings, nil
}

// nothing is the cluster without policies, closed but for exempt namespaces.
func nothing(w World) *compile.Snapshot {
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

func labelsOf(s *compile.Snapshot) map[string]map[string]string {
	out := make(map[string]map[string]string, len(s.Namespaces))
	for _, n := range s.Namespaces {
		out[n.Name] = n.Labels
	}
	return out
}

// run is one audit.
type run struct {
	guardrails *rego.Engine
	rest       func(context.Context, time.Duration)
	namespaces map[string]map[string]string
	findings   []Finding
}

// judge asks about objects that are put into force together, and again about
// each half of them where there is something to say. It returns the state with them.
func (r *run) judge(ctx context.Context, before *compile.Snapshot, some []subject) (*compile.Snapshot, error) {
	start := time.Now()
	after := with(before, some)
	e := effectOf(ctx, before, after)
	r.rest(ctx, time.Since(start))
	quiet, err := r.quiet(ctx, e)
	if err != nil {
		return nil, err
	}
	switch {
	case quiet:
		nothing := none(ctx)
		for _, s := range some {
			if err := r.ask(ctx, s, nothing); err != nil {
				return nil, err
			}
		}
	case len(some) == 1:
		return after, r.ask(ctx, some[0], e)
	default:
		half, err := r.judge(ctx, before, some[:len(some)/2])
		if err != nil {
			return nil, err
		}
		return r.judge(ctx, half, some[len(some)/2:])
	}
	return after, nil
}

func with(before *compile.Snapshot, some []subject) *compile.Snapshot {
	after := *before
	for _, s := range some {
		if s.apply != nil {
			s.apply(&after)
		}
	}
	return &after
}

func effectOf(ctx context.Context, before, after *compile.Snapshot) effect.Effect {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return effect.Compute(ctx, before, after)
}

// none is the effect of what opens and closes nothing.
func none(ctx context.Context) effect.Effect {
	return effect.Compute(ctx, &compile.Snapshot{}, &compile.Snapshot{})
}

// quiet reports whether no guardrail has anything to say of what several objects open together.
func (r *run) quiet(ctx context.Context, e effect.Effect) (bool, error) {
	result, err := r.put(ctx, rego.Input{Source: rego.Audit, Request: rego.Request{Operation: "CREATE"}, Effect: e})
	return len(result.Denials)+len(result.Warnings)+len(result.Audited) == 0, err
}

// ask takes in what the guardrails say of one object.
func (r *run) ask(ctx context.Context, s subject, e effect.Effect) error {
	object, err := s.json()
	if err != nil {
		return err
	}
	group, version := s.group()
	result, err := r.put(ctx, rego.Input{
		Source: rego.Audit,
		Request: rego.Request{Operation: "CREATE", Namespace: s.Namespace, Name: s.Name,
			Kind: rego.GroupVersionKind{Group: group, Version: version, Kind: s.Kind}},
		Object:    object,
		Namespace: rego.Namespace{Name: s.own(), Labels: r.namespaces[s.own()]},
		Effect:    e,
	})
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", s.Kind, s.Namespace, s.Name, err)
	}
	for _, v := range slices.Concat(result.Denials, result.Audited) {
		r.findings = append(r.findings, Finding{s.Object, v, true})
	}
	for _, v := range result.Warnings {
		r.findings = append(r.findings, Finding{s.Object, v, false})
	}
	return nil
}

func (r *run) put(ctx context.Context, in rego.Input) (rego.Result, error) {
	start := time.Now()
	defer func() { r.rest(ctx, time.Since(start)) }()
	limited, cancel := context.WithTimeout(ctx, thought)
	defer cancel()
	result, err := r.guardrails.Judge(limited, in)
	if err == nil {
		err = ctx.Err() // an answer that was cut short is none
	}
	return result, err
}
