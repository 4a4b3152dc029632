// Package check judges manifests by guardrails, as if all of them were applied at
// once. Problems, effects and verdicts come from the code that admission calls.
package check

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/rego"
)

// Checker judges manifests.
type Checker struct {
	// Before is what exists.
	Before   state.State
	Defaults policy.Defaults
	// Guardrails are those in force.
	Guardrails []*v1alpha1.Guardrail
	// User is who would apply the manifests.
	User rego.UserInfo
}

// Result is what there is to say of manifests.
type Result struct {
	// Findings are in the order of the objects, and by rule.
	Findings []Finding
	// Judged is how many objects the guardrails were asked about.
	Judged int
	// Exempt is how many policies are in exempt namespaces, which nothing judges.
	Exempt int
	// Guardrails are those that were asked, sorted by name.
	Guardrails []*v1alpha1.Guardrail
	// Notes are selectors of which the manifests do not tell whether they match a pod.
	Notes []manifest.Error
}

// Denials is how many findings would have the API server refuse an object.
func (r Result) Denials() int {
	n := 0
	for _, f := range r.Findings {
		if f.Level == Deny {
			n++
		}
	}
	return n
}

// Level says what a finding means.
type Level string

const (
	// Deny is a finding for which admission refuses the object.
	Deny Level = "deny"
	// Warn is one that admission tells the sender of.
	Warn Level = "warn"
)

// Finding is one thing that is wrong with an object.
type Finding struct {
	Level Level `json:"level"`
	// Rule is the Guardrail's name, or NotUnderstood or RoleLabel.
	Rule     string `json:"rule"`
	Title    string `json:"title,omitempty"`
	Severity string `json:"severity,omitempty"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	// Object is its kind and name; Field a JSON pointer into it, empty for the whole.
	Object  string `json:"object"`
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

// The rules of findings that no Guardrail makes.
const (
	// NotUnderstood is a field that cannot mean what it says.
	NotUnderstood = "not-understood"
	// RoleLabel is a role label that does not show the role.
	RoleLabel = "role-label"
)

// Check judges the objects. The error is for guardrails that cannot come into force.
func (c *Checker) Check(ctx context.Context, objects []*manifest.Object) (Result, error) {
	guardrails := inForce(c.Guardrails, objects)
	engine, failures := rego.NewEngine(ctx, guardrails)
	if len(failures) > 0 {
		return Result{}, failures[0]
	}
	r := run{Checker: c, engine: engine, applied: map[state.Key]client.Object{}}
	for _, o := range objects {
		if o.Value == nil {
			if mayMakePods(o) {
				r.operatorObjects = append(r.operatorObjects, o)
			}
			continue
		}
		r.applied[state.KeyOf(o.Kind, o.Value)] = o.Value
		switch {
		case !manifest.IsPolicy(o.ID()):
			r.others = append(r.others, o)
		case slices.Contains(c.Defaults.Exempt, o.Namespace):
			r.exempt++
		default:
			r.policies = append(r.policies, o)
		}
	}
	r.findProblems(ctx, objects)
	if err := r.judgePolicies(ctx); err != nil {
		return Result{}, err
	}
	if err := r.judgeOthers(ctx); err != nil {
		return Result{}, err
	}
	place := map[string]int{}
	for i, o := range objects {
		place[o.ID()] = i
	}
	slices.SortStableFunc(r.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(place[a.Object], place[b.Object]), cmp.Compare(a.Level, b.Level), cmp.Compare(a.Rule, b.Rule))
	})
	slices.SortFunc(r.notes, compareNotes)
	return Result{Findings: r.findings, Judged: r.judged, Exempt: r.exempt, Guardrails: guardrails, Notes: r.notes}, nil
}

// inForce are the Guardrails, with those of the manifests in the place of their namesakes.
func inForce(guardrails []*v1alpha1.Guardrail, objects []*manifest.Object) []*v1alpha1.Guardrail {
	byName := map[string]*v1alpha1.Guardrail{}
	for _, g := range guardrails {
		byName[g.Name] = g
	}
	for _, o := range objects {
		if g, ok := o.Value.(*v1alpha1.Guardrail); ok {
			byName[g.Name] = g
		}
	}
	out := make([]*v1alpha1.Guardrail, 0, len(byName))
	for _, g := range byName {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *v1alpha1.Guardrail) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// run is one check.
type run struct {
	*Checker
	engine   *rego.Engine
	applied  map[state.Key]client.Object
	policies []*manifest.Object
	others   []*manifest.Object
	findings []Finding
	judged   int
	exempt   int
	// operatorObjects are those that an operator may make pods of.
	operatorObjects []*manifest.Object
	notes           []manifest.Error
}

// judgePolicies asks the guardrails about each policy with its part of what all
// of them open, where the other objects are there.
func (r *run) judgePolicies(ctx context.Context) error {
	rest := maps.Clone(r.applied)
	for _, o := range r.policies {
		delete(rest, state.KeyOf(o.Kind, o.Value))
	}
	steps, err := stepsOf(ctx, r.Before.With(rest), r.policies, r.Defaults)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if err := r.judgeStep(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// judgeStep asks about the policies of a step, several at once.
func (r *run) judgeStep(ctx context.Context, s step) error {
	parts := newParts(s)
	results := make([]rego.Result, len(s.policies))
	notes := make([][]manifest.Error, len(s.policies))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, o := range s.policies {
		group.Go(func() (err error) {
			results[i], notes[i], err = r.judgePart(ctx, o, parts)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	r.judged += len(s.policies)
	for i, o := range s.policies {
		r.addViolations(o, results[i])
		r.notes = append(r.notes, notes[i]...)
	}
	return nil
}

// addViolations takes in what the guardrails say of an object.
func (r *run) addViolations(o *manifest.Object, result rego.Result) {
	for _, v := range result.Denials {
		r.findings = append(r.findings, newFinding(o, Deny, v))
	}
	for _, v := range result.Warnings {
		r.findings = append(r.findings, newFinding(o, Warn, v))
	}
}

func newFinding(o *manifest.Object, l Level, v rego.Violation) Finding {
	return Finding{Level: l, Rule: v.Guardrail, Title: v.Title, Severity: v.Severity,
		File: o.File, Line: o.Line(v.Path), Object: o.ID(), Field: v.Path, Message: v.Message}
}

func timeOver(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("judge the manifests: %w", context.Cause(ctx))
	}
	return nil
}
