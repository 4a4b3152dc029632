// Package usage is what memory a process of a benchmark says that it takes.
package usage

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Usage is the memory of a process, in bytes.
type Usage struct {
	// Heap is what is live on it.
	Heap uint64
	// Resident is what the process has of the machine's memory, of which File are pages of its program, and Peak the
	// most that it had.
	Resident, File, Peak uint64
	// Synced is how long it took until it was ready.
	Synced time.Duration
}

// Measure is the memory of this process, which has been ready since it was asked.
func Measure(synced time.Duration) (Usage, error) {
	for range 2 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := Usage{Synced: synced, Heap: m.HeapAlloc}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return u, fmt.Errorf("read the process's memory: %w", err)
	}
	fields := map[string]*uint64{"VmHWM:": &u.Peak, "VmRSS:": &u.Resident, "RssFile:": &u.File}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && fields[f[0]] != nil {
			var kilobytes uint64
			if _, err := fmt.Sscan(f[1], &kilobytes); err != nil {
				return u, fmt.Errorf("read the process's memory: %q: %w", line, err)
			}
			*fields[f[0]] = kilobytes * 1024
		}
	}
	return u, nil
}
