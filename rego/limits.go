package rego

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
)

var errTooSlow = errors.New("it took too long and was stopped")

// limiter stops evaluations that take too much time or memory. Guardrails are evaluated one after the
// other; one goroutine checks all of them.
type limiter struct {
	ctx context.Context

	mu      sync.Mutex
	running topdown.Cancel // nil between evaluations
	timer   *time.Timer    // fires when the time of an evaluation is over
	limit   uint64         // of the heap, in bytes
	stopped error          // why the evaluation was stopped
}

// startLimiter starts a limiter, which the caller ends. It ends with the context at the latest.
func startLimiter(ctx context.Context) (w *limiter, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	w = &limiter{ctx: ctx}
	go w.watchLimits()
	return w, cancel
}

func (w *limiter) watchLimits() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-w.ctx.Done():
			thinking, _ := w.currentCall()
			w.stopCall(thinking, errTooSlow)
			return
		case <-ticker.C:
		}
		thinking, limit := w.currentCall()
		if thinking != nil && isHeapAbove(limit) { // reading the heap may take long
			w.stopCall(thinking, errTooMuchMemory)
		}
	}
}

func (w *limiter) currentCall() (thinking topdown.Cancel, limit uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running, w.limit
}

// stopCall stops an evaluation that has not ended.
func (w *limiter) stopCall(thinking topdown.Cancel, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if thinking != nil && w.running == thinking && w.stopped == nil {
		w.stopped = why
		thinking.Cancel()
	}
}

// beginCall starts an evaluation, which gets its share of the time that is left to several guardrails.
func (w *limiter) beginCall(among int) topdown.Cancel {
	w.mu.Lock()
	defer w.mu.Unlock()
	thinking := topdown.NewCancel()
	w.running, w.limit, w.stopped = thinking, memoryLimit(), nil
	if deadline, ok := w.ctx.Deadline(); ok {
		w.timer = time.AfterFunc(time.Until(deadline)/time.Duration(among), func() { w.stopCall(thinking, errTooSlow) })
	}
	if w.ctx.Err() != nil {
		w.stopped = errTooSlow
		thinking.Cancel()
	}
	return thinking
}

// endCall ends an evaluation and returns why it was stopped, or nil.
func (w *limiter) endCall() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running = nil; w.timer != nil {
		w.timer.Stop()
	}
	if w.stopped == nil && w.ctx.Err() != nil {
		return errTooSlow
	}
	return w.stopped
}
