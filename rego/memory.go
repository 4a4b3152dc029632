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
			if isHeapAbove(limit) {
				cancel(errTooMuchMemory)
				return
			}
		}
	}()
	return guarded, func() { cancel(nil) }
}

// memoryLimit is how large the heap may become while a guardrail thinks, in bytes.
func memoryLimit() uint64 { return readMetric("/gc/heap/live:bytes") + maxGrowth }

// isHeapAbove reports whether the heap is at the limit, without what others left behind.
func isHeapAbove(limit uint64) bool {
	if readMetric(heapObjects) < limit {
		return false
	}
	runtime.GC()
	return readMetric(heapObjects) >= limit
}

// heapObjects is the bytes of objects on the heap, those not swept yet included.
const heapObjects = "/memory/classes/heap/objects:bytes"

// readMetric is a metric of the Go runtime, in bytes.
func readMetric(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
