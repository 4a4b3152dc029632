package check

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

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

// judgePart asks about one policy of a step with its part of the effect. The pods
// that do not exist yet and that policies select are those of all policies of the step; what
// is said of these alone counts only if the policy's own selectors mean them.
func (r *run) judgePart(ctx context.Context, o *manifest.Object, p parts) (rego.Result, error) {
	part := p.of(o)
	result, err := r.judge(ctx, o, p.after, part)
	if err != nil || len(p.policies) == 1 || len(result.Denials)+len(result.Warnings) == 0 {
		return result, err
	}
	existing := part
	existing.Added, existing.Removed = keep(part.Added, exists), keep(part.Removed, exists)
	without, err := r.judge(ctx, o, p.after, existing)
	if err != nil || slices.Equal(rules(result), rules(without)) {
		return result, err
	}
	own := r.alone(ctx, o, p.step)
	own.Added = append(existing.Added, keep(own.Added, func(row effect.Row) bool { return !exists(row) })...)
	own.Removed = append(existing.Removed, keep(own.Removed, func(row effect.Row) bool { return !exists(row) })...)
	own.NewlyIsolated, own.NoLongerIsolated = part.NewlyIsolated, part.NoLongerIsolated
	own.Lint, own.Roles = part.Lint, rolesOf(own.Added)
	return r.judge(ctx, o, p.after, own)
}

// exists says whether both sides of a row are there.
func exists(row effect.Row) bool { return row.From.Kind != effect.Class && row.To.Kind != effect.Class }

// alone is the effect of one policy of a step, where those of the cluster are there. What
// NetworkPolicies allow together is what each of them allows.
func (r *run) alone(ctx context.Context, o *manifest.Object, s step) effect.Effect {
	before := s.before.With(values(keep(s.policies, func(p *manifest.Object) bool {
		return p.Kind == "ClusterNetworkPolicy" && p != o
	})))
	return effect.Of(ctx, before.Snapshot(r.Defaults), before.With(values([]*manifest.Object{o})).Snapshot(r.Defaults))
}

// rules are the guardrails that say something, sorted.
func rules(result rego.Result) []string {
	var out []string
	for _, v := range slices.Concat(result.Denials, result.Warnings) {
		out = append(out, v.Guardrail)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
