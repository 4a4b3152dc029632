package cluster

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// withProgress runs f and says on log that it runs, for how long it has been
// running, and how long it took: in place on a terminal, else in a line now
// and then.
func withProgress(log io.Writer, label string, f func() error) error {
	start := time.Now()
	every, begin, end := 30*time.Second, "", "\n"
	if file, ok := log.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		every, begin, end = time.Second, "\r\x1b[K", ""
	}
	seconds := func() int { return int(time.Since(start).Round(time.Second).Seconds()) }
	fmt.Fprintf(log, "%s%s: building%s", begin, label, end)

	done := make(chan error, 1)
	go func() { done <- f() }() // ends before withProgress returns
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(log, "%s%s: building, %d s%s", begin, label, seconds(), end)
		case err := <-done:
			outcome := "done"
			if err != nil {
				outcome = "failed"
			}
			fmt.Fprintf(log, "%s%s: %s in %d s\n", begin, label, outcome, seconds())
			return err
		}
	}
}
