package check

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/rego"
)

// judgeOthers asks about the objects that are no policies, as a label can open
// what a policy does, under the policies that there are in the end. Most change
// nothing; where all together open something that is not allowed, they are
// applied one by one to find which does.
func (r *run) judgeOthers(ctx context.Context) error {
	if !r.Before.Has("NetworkPolicy", "ClusterNetworkPolicy") || len(r.others) == 0 {
		return nil // nothing is open or closed but by what is applied
	}
	policies := maps.Clone(r.applied)
	for _, o := range r.others {
		delete(policies, state.KeyOf(o.Kind, o.Value))
	}
	before := r.Before.With(policies)
	was := before.Snapshot(r.Defaults)
	is := before.With(r.applied).Snapshot(r.Defaults)
	if quiet, err := r.harmless(ctx, was, is); quiet || err != nil {
		return err
	}
	for _, o := range r.others {
		if !r.matters(o) {
			continue
		}
		next := before.With(map[state.Key]client.Object{state.KeyOf(o.Kind, o.Value): o.Value})
		is := next.Snapshot(r.Defaults)
		e := r.opened(was, effect.Compute(ctx, was, is))
		if len(e.Added)+len(e.Removed) > 0 || !e.Complete {
			result, err := r.judge(ctx, o, is, e)
			if err != nil {
				return err
			}
			r.addViolations(o, result)
			r.judged++
		}
		before, was = next, is
	}
	return timeOver(ctx)
}

// matters reports whether an object bears on what pods may do, and is not exempt.
func (r *run) matters(o *manifest.Object) bool {
	if slices.Contains(r.Defaults.Exempt, o.Namespace) {
		return false
	}
	switch v := o.Value.(type) {
	case *corev1.Node, *v1alpha1.Guardrail:
		return false
	case *corev1.Namespace:
		old, ok := r.Before.Get(state.KeyOf(o.Kind, v)).(*corev1.Namespace)
		return !ok || !maps.Equal(old.Labels, v.Labels)
	case *v1alpha1.TierRole:
		old, ok := r.Before.Get(state.KeyOf(o.Kind, v)).(*v1alpha1.TierRole)
		return !ok || !equality.Semantic.DeepEqual(old.Spec, v.Spec)
	default:
		return true
	}
}

// harmless reports whether no guardrail has anything to say of all the objects together.
func (r *run) harmless(ctx context.Context, was, is *compile.Snapshot) (bool, error) {
	e := r.opened(was, effect.Compute(ctx, was, is))
	if err := timeOver(ctx); err != nil {
		return false, err
	}
	if e.Complete && !e.Truncated && len(e.Added)+len(e.Removed) == 0 {
		return true, nil
	}
	result, err := r.engine.Judge(ctx, rego.Input{Source: rego.CLI, Effect: e, Request: rego.Request{Operation: "UPDATE", UserInfo: r.User}})
	return len(result.Denials)+len(result.Warnings) == 0, err
}

// opened leaves out of an effect what the policies that are applied are judged
// for, and what new pods may do only because no policy selects them.
func (r *run) opened(was *compile.Snapshot, e effect.Effect) effect.Effect {
	ids := map[string]bool{}
	for _, o := range r.policies {
		ids[o.ID()] = true
	}
	existed := map[string]bool{}
	for _, p := range was.Pods {
		existed[p.Namespace+"/"+p.Name] = true
	}
	e.Added = filter(e.Added, func(row effect.Row) bool {
		byPolicy := slices.ContainsFunc(row.Via, func(v effect.Ref) bool { return manifest.IsPolicy(v.Policy) })
		judged := slices.ContainsFunc(row.Via, func(v effect.Ref) bool { return ids[v.Policy] })
		own := ownPeer(row)
		return !judged && (byPolicy || existed[own.Namespace+"/"+own.Name])
	})
	e.Lint = effect.Lint{DeadPeers: []effect.Ref{}, NearMatches: []effect.NearMatch{}, NamedPortsUnresolved: []effect.Ref{}, ShadowedBy: []effect.Ref{},
		RedundantWith: []effect.Ref{}, PriorityTies: []effect.Ref{}}
	e.Roles = rolesOf(e.Added)
	return e
}
