package rego

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
)

func TestWhatHoldsTooMuchMemoryIsStopped(t *testing.T) {
	runtime.GC()
	ctx, end := guardMemory(t.Context())
	defer end()
	held := make([]byte, 2*maxGrowth)
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
	}
	if !errors.Is(context.Cause(ctx), errTooMuchMemory) {
		t.Errorf("stopped for %v", context.Cause(ctx))
	}
	runtime.KeepAlive(held)
}

func TestWhatLeavesGarbageIsNotStopped(t *testing.T) {
	ctx, end := guardMemory(t.Context())
	defer end()
	for range 8 * maxGrowth >> 20 {
		held := make([]byte, 1<<20)
		runtime.KeepAlive(held)
	}
	time.Sleep(2 * lookEvery)
	if ctx.Err() != nil {
		t.Errorf("stopped for %v", context.Cause(ctx))
	}
}

func TestTheWatchEnds(t *testing.T) {
	ctx, end := guardMemory(t.Context())
	end()
	<-ctx.Done()
	if errors.Is(context.Cause(ctx), errTooMuchMemory) {
		t.Error("ending it looks like a lack of memory")
	}
}
