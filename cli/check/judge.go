package check

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
	"github.com/tierwall/tierwall/rego"
)

// judge asks the guardrails about one object, as admission would when it is applied.
func (r *run) judge(ctx context.Context, o *manifest.Object, after *compile.Snapshot, e effect.Effect) (rego.Result, error) {
	object, err := o.JSON()
	if err != nil {
		return rego.Result{}, err
	}
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil {
		return rego.Result{}, fmt.Errorf("%s: %w", o.ID(), err)
	}
	in := rego.Input{
		Source: rego.CLI,
		Request: rego.Request{
			Operation: "CREATE",
			Kind:      rego.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: o.Kind},
			Namespace: o.Namespace, Name: o.Name, UserInfo: r.User,
		},
		Object:    object,
		Namespace: rego.Namespace{Name: o.Namespace},
		Effect:    e,
	}
	for _, n := range after.Namespaces {
		if n.Name == o.Namespace {
			in.Namespace.Labels = n.Labels
		}
	}
	if old := r.Before.Get(state.KeyOf(o.Kind, o.Value)); old != nil {
		in.Request.Operation = "UPDATE"
		if in.OldObject, err = json.Marshal(old); err != nil {
			return rego.Result{}, fmt.Errorf("write %s as JSON: %w", o.ID(), err)
		}
	}
	result, err := r.engine.Judge(ctx, in)
	if err == nil {
		err = timeOver(ctx)
	}
	if err != nil {
		return rego.Result{}, fmt.Errorf("judge %s: %w", o.ID(), err)
	}
	return result, nil
}

// judgePart asks about one policy of a step with its part of the effect. That part can
// be too much: it has the ports that others open between the same pods, and the
// pods that others might select. So an answer that is not a clean one is asked for again
// with what the policy opens by itself.
func (r *run) judgePart(ctx context.Context, o *manifest.Object, p parts) (rego.Result, []manifest.Error, error) {
	part := p.partFor(o)
	lint, notes := r.withoutUnknownPods(o, part.Lint, p.after)
	part.Lint = lint
	result, err := r.judge(ctx, o, p.after, part)
	if err != nil || len(p.policies) == 1 || o.Kind != "NetworkPolicy" || len(result.Denials)+len(result.Warnings) == 0 {
		return result, notes, err
	}
	own := p.effectOfOne(ctx, o)
	markUnblocked(own.Added, part.Added)
	own.Removed, own.NewlyIsolated, own.NoLongerIsolated = part.Removed, part.NewlyIsolated, part.NoLongerIsolated
	own.Lint, own.Roles = part.Lint, rolesOf(own.Added)
	result, err = r.judge(ctx, o, p.after, own)
	return result, notes, err
}

// markUnblocked has in rows what the other sides let pass when all policies are there.
func markUnblocked(rows, together []effect.Row) {
	type key struct {
		direction effect.Direction
		from, to  [2]string
	}
	keyOf := func(r effect.Row) key {
		return key{r.Direction, [2]string{r.From.Namespace, r.From.Name}, [2]string{r.To.Namespace, r.To.Name}}
	}
	passing := map[key]effect.Row{}
	for _, r := range together {
		if r.From.Kind != effect.Class && r.To.Kind != effect.Class && !r.Blocked {
			passing[keyOf(r)] = r
		}
	}
	for i := range rows {
		if r, ok := passing[keyOf(rows[i])]; ok {
			rows[i].Blocked, rows[i].Potential = false, r.Potential
		}
	}
}

// effectOfOne is the effect of one NetworkPolicy of a step, where those of the cluster are
// there: what NetworkPolicies allow together is what each of them allows.
func (s step) effectOfOne(ctx context.Context, o *manifest.Object) effect.Effect {
	before := s.before.With(objectsByKey(filter(s.policies, func(p *manifest.Object) bool { return p.Kind == "ClusterNetworkPolicy" })))
	return s.world.calculator.Compute(ctx, s.world.snapshotOf(before), s.world.snapshotOf(before.With(objectsByKey([]*manifest.Object{o}))))
}
