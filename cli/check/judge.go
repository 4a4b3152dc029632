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
