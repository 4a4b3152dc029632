package webhook

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

// GuardrailStore is the guardrails in force. It follows the Guardrail objects: they are
// prepared when they change, not for each request, and swapped in whole.
//
// A Guardrail that cannot be prepared leaves its last good version in force. One
// that never was good is broken: the changes that it is about are refused, by
// its name, until it is repaired or deleted.
type GuardrailStore struct {
	cache   cache.Cache
	log     *slog.Logger
	dirty   chan struct{}
	changed chan struct{}

	inForce atomic.Pointer[loadedGuardrails]
	bundle  atomic.Pointer[rego.Bundle]

	mu       sync.Mutex // one Load at a time
	lastGood map[types.UID]preparedVersion
}

// preparedVersion is a Guardrail that is prepared.
type preparedVersion struct {
	*rego.Prepared
	generation, bundle int64
}

// loadedGuardrails is an engine with what is to be known of its guardrails.
type loadedGuardrails struct {
	engine *rego.Engine
	broken []*v1alpha1.Guardrail
	states map[types.UID]GuardrailState
}

// GuardrailState is what became of a Guardrail.
type GuardrailState struct {
	// Generation is that of the object which was loaded.
	Generation int64
	// InForce is the generation in force; 0 is none.
	InForce int64
	// Bundle is the revision of the bundle that it is from; 0 is none.
	Bundle int64
	// Err is why Generation is not in force, or nil.
	Err error
}

// NewGuardrailStore makes an Engine that follows the Guardrails of the cache.
func NewGuardrailStore(c cache.Cache, log *slog.Logger) *GuardrailStore {
	return &GuardrailStore{cache: c, log: log, dirty: make(chan struct{}, 1), changed: make(chan struct{}, 1), lastGood: map[types.UID]preparedVersion{}}
}

// NeedLeaderElection is false: every replica judges.
func (*GuardrailStore) NeedLeaderElection() bool { return false }

// Start follows the Guardrails until ctx ends.
func (e *GuardrailStore) Start(ctx context.Context) error {
	informer, err := e.cache.GetInformer(ctx, &v1alpha1.Guardrail{})
	if err != nil {
		return fmt.Errorf("watch Guardrails: %w", err)
	}
	mark := func() { trySend(e.dirty) }
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { mark() },
		UpdateFunc: func(old, now any) {
			if old.(client.Object).GetGeneration() != now.(client.Object).GetGeneration() {
				mark()
			}
		},
		DeleteFunc: func(any) { mark() },
	})
	if err != nil {
		return fmt.Errorf("watch Guardrails: %w", err)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return ctx.Err()
	}
	mark()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.dirty:
			if err := e.reload(ctx); err != nil {
				e.log.ErrorContext(ctx, "cannot load the guardrails; the last ones stay in force", "err", err)
			}
		}
	}
}

func (e *GuardrailStore) reload(ctx context.Context) error {
	list := &v1alpha1.GuardrailList{}
	if err := e.cache.List(ctx, list); err != nil {
		return fmt.Errorf("list Guardrails: %w", err)
	}
	guardrails := make([]*v1alpha1.Guardrail, 0, len(list.Items))
	for i := range list.Items {
		guardrails = append(guardrails, &list.Items[i])
	}
	e.Load(ctx, guardrails)
	return nil
}

// UseBundle puts the guardrails of a bundle in the place of those of the one before.
func (e *GuardrailStore) UseBundle(b *rego.Bundle) {
	e.bundle.Store(b)
	trySend(e.dirty)
}

// Bundle is the one in use, or nil.
func (e *GuardrailStore) Bundle() *rego.Bundle { return e.bundle.Load() }

// NewestBundle says which revision of the bundle is the newest that was ever in
// force, as the status of Guardrails shows.
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
func (e *GuardrailStore) Load(ctx context.Context, guardrails []*v1alpha1.Guardrail) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := &loadedGuardrails{states: map[types.UID]GuardrailState{}}
	good, bundle := map[types.UID]preparedVersion{}, e.bundle.Load()
	var prepared []*rego.Prepared
	for _, g := range guardrails {
		v, err := e.prepare(ctx, g, bundle)
		if err != nil {
			e.log.ErrorContext(ctx, "a Guardrail cannot come into force", "guardrail", g.Name, "err", err)
		}
		next.states[g.UID] = GuardrailState{Generation: g.Generation, InForce: v.generation, Bundle: v.bundle, Err: err}
		if v.Prepared == nil {
			next.broken = append(next.broken, g)
			continue
		}
		good[g.UID] = v
		prepared = append(prepared, v.Prepared)
	}
	next.engine, e.lastGood = rego.EngineOf(prepared), good
	e.inForce.Store(next)
	recordStates(next)
	trySend(e.changed)
}

// prepare is the version of a Guardrail that is to be in force, if any, and why it
// is not the present one.
func (e *GuardrailStore) prepare(ctx context.Context, g *v1alpha1.Guardrail, from *rego.Bundle) (preparedVersion, error) {
	now := preparedVersion{generation: g.Generation}
	if g.Spec.Bundle != "" && from != nil {
		now.bundle = from.Revision
	}
	last := e.lastGood[g.UID]
	if last.Prepared != nil && last.generation == now.generation && last.bundle == now.bundle {
		return last, nil
	}
	var err error
	if now.Prepared, err = rego.Prepare(ctx, g, from); err != nil {
		return last, err
	}
	return now, nil
}

func recordStates(g *loadedGuardrails) {
	var active, outdated, broken float64
	for _, s := range g.states {
		switch {
		case s.Err == nil:
			active++
		case s.InForce != 0:
			outdated++
		default:
			broken++
		}
	}
	guardrailsByState.WithLabelValues("active").Set(active)
	guardrailsByState.WithLabelValues("outdated").Set(outdated)
	guardrailsByState.WithLabelValues("broken").Set(broken)
}

func trySend(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// Changed receives after guardrails were loaded, and after Tell. It has one reader.
func (e *GuardrailStore) Changed() <-chan struct{} { return e.changed }

// Notify is called where something else is to be told of guardrails.
func (e *GuardrailStore) Notify() { trySend(e.changed) }

// Loaded reports whether the guardrails are in force.
func (e *GuardrailStore) Loaded() bool { return e.inForce.Load() != nil }

// InForce are the guardrails that can be asked, without the broken ones; nil until
// they are loaded, and another one when they change.
func (e *GuardrailStore) InForce() *rego.Engine {
	if g := e.inForce.Load(); g != nil {
		return g.engine
	}
	return nil
}

// State is what became of a Guardrail; false where it was not loaded yet.
func (e *GuardrailStore) State(uid types.UID) (GuardrailState, bool) {
	g := e.inForce.Load()
	if g == nil {
		return GuardrailState{}, false
	}
	s, ok := g.states[uid]
	return s, ok
}

// Judge asks the guardrails in force.
func (e *GuardrailStore) Judge(ctx context.Context, in rego.Input) (rego.Result, error) {
	g := e.inForce.Load()
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
