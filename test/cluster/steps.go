package cluster

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// steps reports what has been reached since the start of the boot.
type steps struct {
	mu    sync.Mutex
	log   io.Writer
	start time.Time
}

func newSteps(log io.Writer) *steps { return &steps{log: log, start: time.Now()} }

func (s *steps) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.log, "%5.1f s  %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}
