// Package guardrails holds the guardrails in force, which it prepares from the Guardrail objects and the bundle.
package guardrails

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/rego"
)

// GuardrailStore holds the guardrails in force. It watches the Guardrail objects, compiles
// those that change, and replaces all guardrails in one step.
//
// A Guardrail that cannot be compiled leaves its last good version in force. One that has
// no good version is broken: it refuses, by its name, the changes that it is about.
type GuardrailStore struct {
	cache   cache.Cache
	log     *slog.Logger
	dirty   chan struct{}
	changed chan struct{}

	inForce atomic.Pointer[loadedGuardrails]
	bundle  atomic.Pointer[rego.Bundle]

	mu       sync.Mutex // held during Load
	lastGood map[types.UID]preparedVersion
}

// preparedVersion is a compiled Guardrail, and the generation and bundle revision that it was compiled from.
type preparedVersion struct {
	*rego.Prepared
	generation, bundle int64
}

// loadedGuardrails holds what one Load put in force.
type loadedGuardrails struct {
	engine *rego.Engine
	broken []*v1alpha1.Guardrail
	states map[types.UID]GuardrailState
}

// GuardrailState is the outcome of loading a Guardrail.
type GuardrailState struct {
	// Generation is the generation of the object that was loaded.
	Generation int64
	// InForce is the generation in force; 0 means none.
	InForce int64
	// Bundle is the revision of the bundle that the guardrail is from; 0 means none.
	Bundle int64
	// Err is why Generation is not in force, or nil.
	Err error
}

// NewGuardrailStore returns a store that watches the Guardrails of the cache once it is started.
func NewGuardrailStore(c cache.Cache, log *slog.Logger) *GuardrailStore {
	return &GuardrailStore{cache: c, log: log, dirty: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		lastGood: map[types.UID]preparedVersion{}}
}

// NeedLeaderElection returns false: every replica judges requests.
func (*GuardrailStore) NeedLeaderElection() bool { return false }

// Start loads the Guardrails, and loads them again when they change, until ctx ends.
func (s *GuardrailStore) Start(ctx context.Context) error {
	informer, err := s.cache.GetInformer(ctx, &v1alpha1.Guardrail{})
	if err != nil {
		return fmt.Errorf("watch Guardrails: %w", err)
	}
	markDirty := func() { trySend(s.dirty) }
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { markDirty() },
		UpdateFunc: func(old, now any) {
			if old.(client.Object).GetGeneration() != now.(client.Object).GetGeneration() {
				markDirty()
			}
		},
		DeleteFunc: func(any) { markDirty() },
	})
	if err != nil {
		return fmt.Errorf("watch Guardrails: %w", err)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return ctx.Err()
	}
	markDirty()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.dirty:
			if err := s.reload(ctx); err != nil {
				s.log.ErrorContext(ctx, "loading guardrails failed; the last ones stay in force", "err", err)
			}
		}
	}
}

func (s *GuardrailStore) reload(ctx context.Context) error {
	list := &v1alpha1.GuardrailList{}
	if err := s.cache.List(ctx, list); err != nil {
		return fmt.Errorf("list Guardrails: %w", err)
	}
	guardrails := make([]*v1alpha1.Guardrail, 0, len(list.Items))
	for i := range list.Items {
		guardrails = append(guardrails, &list.Items[i])
	}
	s.Load(ctx, guardrails)
	return nil
}

// UseBundle replaces the bundle, and loads the guardrails again.
func (s *GuardrailStore) UseBundle(b *rego.Bundle) {
	s.bundle.Store(b)
	trySend(s.dirty)
}

// Bundle returns the bundle in use, or nil.
func (s *GuardrailStore) Bundle() *rego.Bundle { return s.bundle.Load() }

// NewestBundle returns a function that reads, from the status of the Guardrails, the newest
// bundle revision that was ever in force.
func NewestBundle(guardrails client.Reader) func(context.Context) (int64, error) {
	return func(ctx context.Context) (int64, error) {
		list := &v1alpha1.GuardrailList{}
		if err := guardrails.List(ctx, list); err != nil {
			return 0, fmt.Errorf("list Guardrails: %w", err)
		}
		var newest int64
		for _, g := range list.Items {
			newest = max(newest, g.Status.BundleRevision)
		}
		return newest, nil
	}
}

// Load puts the guardrails in force.
func (s *GuardrailStore) Load(ctx context.Context, guardrails []*v1alpha1.Guardrail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := &loadedGuardrails{states: map[types.UID]GuardrailState{}}
	lastGood, bundle := map[types.UID]preparedVersion{}, s.bundle.Load()
	var prepared []*rego.Prepared
	for _, g := range guardrails {
		v, err := s.prepare(ctx, g, bundle)
		if err != nil {
			s.log.ErrorContext(ctx, "loading a guardrail failed", "guardrail", g.Name, "err", err)
		}
		next.states[g.UID] = GuardrailState{Generation: g.Generation, InForce: v.generation, Bundle: v.bundle, Err: err}
		if v.Prepared == nil {
			next.broken = append(next.broken, g)
			continue
		}
		lastGood[g.UID] = v
		prepared = append(prepared, v.Prepared)
	}
	next.engine, s.lastGood = rego.EngineOf(prepared), lastGood
	s.inForce.Store(next)
	recordStates(next)
	trySend(s.changed)
}

// prepare returns the version of a Guardrail to put in force, if any. The error is why that
// is not the current generation.
func (s *GuardrailStore) prepare(ctx context.Context, g *v1alpha1.Guardrail, bundle *rego.Bundle) (preparedVersion, error) {
	now := preparedVersion{generation: g.Generation}
	if g.Spec.Bundle != "" && bundle != nil {
		now.bundle = bundle.Revision
	}
	last := s.lastGood[g.UID]
	if last.Prepared != nil && last.generation == now.generation && last.bundle == now.bundle {
		return last, nil
	}
	var err error
	if now.Prepared, err = rego.Prepare(ctx, g, bundle); err != nil {
		return last, err
	}
	return now, nil
}

// trySend sends unless a value is already pending.
func trySend(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Changed receives after guardrails were loaded, and after Notify. It has one reader.
func (s *GuardrailStore) Changed() <-chan struct{} { return s.changed }

// Notify wakes the reader of Changed.
func (s *GuardrailStore) Notify() { trySend(s.changed) }

// Loaded reports whether the guardrails are in force.
func (s *GuardrailStore) Loaded() bool { return s.inForce.Load() != nil }

// InForce returns the guardrails in force, without the broken ones. It is nil until they are
// loaded, and another engine after each Load.
func (s *GuardrailStore) InForce() *rego.Engine {
	if g := s.inForce.Load(); g != nil {
		return g.engine
	}
	return nil
}

// State returns the outcome of loading a Guardrail, and false if it was not loaded yet.
func (s *GuardrailStore) State(uid types.UID) (GuardrailState, bool) {
	g := s.inForce.Load()
	if g == nil {
		return GuardrailState{}, false
	}
	state, ok := g.states[uid]
	return state, ok
}

// Judge evaluates the guardrails in force. Broken guardrails that concern the input are violated.
func (s *GuardrailStore) Judge(ctx context.Context, in rego.Input) (rego.Result, error) {
	g := s.inForce.Load()
	if g == nil {
		return rego.Result{}, errors.New("the guardrails are not loaded yet; try again in a moment")
	}
	result, err := g.engine.Judge(ctx, in)
	if err != nil {
		return rego.Result{}, err
	}
	for _, b := range g.broken {
		if rego.Concerns(b.Spec, in) {
			result.Put(rego.EnforcementOf(b.Spec, in), []rego.Violation{{Guardrail: b.Name, Message: fmt.Sprintf(
				"cannot be asked, because it does not compile: %v; repair it or delete it", g.states[b.UID].Err)}}, nil)
		}
	}
	return result, nil
}
