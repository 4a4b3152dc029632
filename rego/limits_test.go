package rego

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/topdown"
)

// stopped waits until who thinks is stopped, and is why.
func stopped(w *limiter, thinking topdown.Cancel) error {
	for begin := time.Now(); !thinking.Cancelled() && time.Since(begin) < time.Minute; {
		time.Sleep(time.Millisecond)
	}
	return w.endCall()
}

func TestWhoThinksWhenTheTimeOfAllIsOverIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w, end := startLimiter(ctx)
	defer end()
	first := w.beginCall(1)
	cancel()
	if err := stopped(w, first); !errors.Is(err, errTooSlow) {
		t.Errorf("the first was stopped for %v", err)
	}
	if err := stopped(w, w.beginCall(1)); !errors.Is(err, errTooSlow) {
		t.Errorf("the second was stopped for %v", err)
	}
}

func TestEachHasItsShareOfTheTime(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	w, end := startLimiter(ctx)
	defer end()
	if first := w.beginCall(1_000_000); !errors.Is(stopped(w, first), errTooSlow) {
		t.Error("the first was not stopped")
	}
	if second := w.beginCall(1); second.Cancelled() || w.endCall() != nil {
		t.Error("the second was stopped for the first")
	}
}

func TestWhoTakesTooMuchMemoryIsStopped(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	w, end := startLimiter(ctx)
	defer end()
	runtime.GC()
	thinking := w.beginCall(1)
	held := make([]byte, 2*maxGrowth)
	if err := stopped(w, thinking); !errors.Is(err, errTooMuchMemory) {
		t.Errorf("it was stopped for %v", err)
	}
	runtime.KeepAlive(held)
}
