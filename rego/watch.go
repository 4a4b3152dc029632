package rego

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
)

var errTooSlow = errors.New("it took too long and was stopped")

// watch stops guardrails that think too long or take too much memory. They think one after
// the other; one goroutine watches over all of them.
type watch struct {
	ctx context.Context

	mu       sync.Mutex
	thinking topdown.Cancel // nil while nobody thinks
	timer    *time.Timer    // until its time is over
	limit    uint64         // of the heap, in bytes
	stopped  error          // why it was stopped that thinks
}

// watchOver begins a watch, within the context. The caller ends it.
func watchOver(ctx context.Context) (w *watch, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	w = &watch{ctx: ctx}
	go w.look()
	return w, cancel
}

func (w *watch) look() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-w.ctx.Done():
			thinking, _ := w.now()
			w.stop(thinking, errTooSlow)
			return
		case <-ticker.C:
		}
		thinking, limit := w.now()
		if thinking != nil && exceeds(limit) { // which may take long, and nobody waits for it
			w.stop(thinking, errTooMuchMemory)
		}
	}
}

func (w *watch) now() (thinking topdown.Cancel, limit uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.thinking, w.limit
}

// stop stops the one guardrail, unless it is done.
func (w *watch) stop(thinking topdown.Cancel, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if thinking != nil && w.thinking == thinking && w.stopped == nil {
		w.stopped = why
		thinking.Cancel()
	}
}

// begin gives one guardrail its share of the time that is left to several of them.
func (w *watch) begin(among int) topdown.Cancel {
	w.mu.Lock()
	defer w.mu.Unlock()
	thinking := topdown.NewCancel()
	w.thinking, w.limit, w.stopped = thinking, memoryLimit(), nil
	if deadline, ok := w.ctx.Deadline(); ok {
		w.timer = time.AfterFunc(time.Until(deadline)/time.Duration(among), func() { w.stop(thinking, errTooSlow) })
	}
	if w.ctx.Err() != nil {
		w.stopped = errTooSlow
		thinking.Cancel()
	}
	return thinking
}

// done ends what begin began, and says why the guardrail was stopped, if it was.
func (w *watch) done() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.thinking = nil; w.timer != nil {
		w.timer.Stop()
	}
	if w.stopped == nil && w.ctx.Err() != nil {
		return errTooSlow
	}
	return w.stopped
}
