// Package rego is the guardrail library and the engine that evaluates
// guardrails: rules in Rego about what policies may never open.
package rego

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"golang.org/x/sync/errgroup"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// judgeTime is how long a judgement may take when its context has no deadline.
const judgeTime = 5 * time.Second

// Engine judges changes by a fixed list of guardrails. It is immutable and safe
// for concurrent use; a changed list needs a new Engine.
type Engine struct{ guardrails []*Prepared }

// GuardrailError says why a Guardrail is not in force. It does not stop the others.
type GuardrailError struct {
	// Name is the Guardrail's.
	Name string
	Err  error
}

func (e GuardrailError) Error() string { return fmt.Sprintf("Guardrail %s: %v", e.Name, e.Err) }

// Unwrap is the reason.
func (e GuardrailError) Unwrap() error { return e.Err }

// NewEngine prepares guardrails. Those that cannot be are left out and returned as errors, with the place
// (file:line:column) where the source is at fault.
func NewEngine(ctx context.Context, guardrails []*v1alpha1.Guardrail) (*Engine, []GuardrailError) {
	prepared, failures := make([]*Prepared, len(guardrails)), make([]error, len(guardrails))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, object := range guardrails {
		group.Go(func() error {
			prepared[i], failures[i] = Prepare(ctx, object, nil)
			return nil
		})
	}
	_ = group.Wait() // failures holds the errors
	var errs []GuardrailError
	for i, err := range failures {
		if err != nil {
			errs = append(errs, GuardrailError{Name: guardrails[i].Name, Err: err})
		}
	}
	return EngineOf(slices.DeleteFunc(prepared, func(p *Prepared) bool { return p == nil })), errs
}

// EngineOf is the engine of guardrails that are prepared.
func EngineOf(prepared []*Prepared) *Engine {
	e := &Engine{guardrails: slices.Clone(prepared)}
	slices.SortFunc(e.guardrails, func(a, b *Prepared) int { return strings.Compare(a.name, b.name) })
	return e
}

// Judge asks every guardrail that concerns the input. A guardrail
// that fails, runs out of time or answers in a form that is not understood
// counts as violated. The time until ctx's deadline is shared out among the
// guardrails. The error is for an input that could not be judged at all; the
// change must be refused then.
func (e *Engine) Judge(ctx context.Context, in Input) (Result, error) {
	var asked []*Prepared
	for _, g := range e.guardrails {
		if Concerns(g.spec, in) && !g.canSkip(&in.Effect) {
			asked = append(asked, g)
		}
	}
	document, err := in.toDocument()
	if err != nil {
		return Result{}, fmt.Errorf("converting the input of guardrails: %w", err)
	}
	ctx, cancel := withTimeLimit(ctx)
	defer cancel()
	w, end := startLimiter(ctx)
	defer end()
	var result Result
	for i, g := range asked {
		result.addAnswer(g, EnforcementOf(g.spec, in), g.evaluate(w, document, len(asked)-i))
	}
	return result, nil
}

// withTimeLimit gives a context a deadline, a little before its own if it has one: whoever
// asks must have time to pass on which guardrail was too slow.
func withTimeLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithTimeout(ctx, time.Until(deadline)*9/10)
	}
	return context.WithTimeout(ctx, judgeTime)
}

// withParameters is the input document as one guardrail sees it.
func withParameters(document ast.Object, parameters *ast.Term) ast.Object {
	own := ast.NewObject([2]*ast.Term{ast.InternedTerm("parameters"), parameters})
	document.Foreach(func(k, v *ast.Term) { own.Insert(k, v) })
	return own
}
