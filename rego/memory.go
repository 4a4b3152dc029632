package rego

import (
	"context"
	"errors"
	"runtime"
	"runtime/metrics"
	"time"
)

const (
	// maxGrowth is by how many bytes the live heap may grow while a guardrail thinks.
	maxGrowth = 128 << 20
	// lookEvery is how often the heap is looked at.
	lookEvery = 5 * time.Millisecond
)

var errTooMuchMemory = errors.New("it took too much memory and was stopped")

// guardMemory cancels the context, with errTooMuchMemory as its cause, once the
// heap has grown too much. OPA has no limit of its own, and a few lines of Rego
// can double a text until the process is killed. The caller ends it.
func guardMemory(ctx context.Context) (guarded context.Context, end func()) {
	guarded, cancel := context.WithCancelCause(ctx)
	limit := memoryLimit()
	go func() {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		for {
			select {
			case <-guarded.Done():
				return
			case <-ticker.C:
			}
			if exceeds(limit) {
				cancel(errTooMuchMemory)
				return
			}
		}
	}()
	return guarded, func() { cancel(nil) }
}

// memoryLimit is how large the heap may become while a guardrail thinks, in bytes.
func memoryLimit() uint64 { return sampled("/gc/heap/live:bytes") + maxGrowth }

// exceeds reports whether the heap is at the limit, without what others left behind.
func exceeds(limit uint64) bool {
	if sampled(heapObjects) < limit {
		return false
	}
	runtime.GC()
	return sampled(heapObjects) >= limit
}

// heapObjects is the bytes of objects on the heap, those not swept yet included.
const heapObjects = "/memory/classes/heap/objects:bytes"

// sampled is a metric of the Go runtime, in bytes.
func sampled(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
