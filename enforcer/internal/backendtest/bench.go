//go:build netns

package backendtest

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy/compile"
)

// BenchmarkUpdate measures changes there and back. The pause after each is what the agent leaves between two.
func BenchmarkUpdate[B Backend](b *testing.B, newNode func(testing.TB) Node[B], pause time.Duration) {
	for _, l := range sample.Loads {
		before, _ := compile.Compile(l.Snapshot(), "node")
		for name, s := range l.Changes() {
			after, _ := compile.Compile(s, "node")
			there, back := transition.ChangeBetween(before, after), transition.ChangeBetween(after, before)
			b.Run(l.String()+"/"+name, func(b *testing.B) {
				n := newNode(b)
				backend := n.Open()
				n.Apply(backend, before)
				start := cpuTime(b)
				n.Must(func() error {
					for i := 0; b.Loop(); i++ {
						c := there
						if i%2 == 1 {
							c = back
						}
						if err := backend.Update(b.Context(), c); err != nil {
							return err
						}
						if pause > 0 {
							b.StopTimer()
							time.Sleep(pause)
							b.StartTimer()
						}
					}
					return nil
				})
				b.ReportMetric(float64((cpuTime(b)-start).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

// cpuTime is what this process and the programs that it started have used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// BenchmarkColdStart measures the first program on an empty node.
func BenchmarkColdStart[B Backend](b *testing.B, newNode func(testing.TB) Node[B]) {
	for _, l := range sample.Loads {
		p, _ := compile.Compile(l.Snapshot(), "node")
		b.Run(l.String(), func(b *testing.B) {
			for b.Loop() {
				n := newNode(b)
				n.Apply(n.Open(), p)
			}
		})
	}
}

// BenchmarkRestart measures the first program of a new backend on a node where it is in force.
func BenchmarkRestart[B Backend](b *testing.B, newNode func(testing.TB) Node[B]) {
	for _, l := range sample.Loads {
		p, _ := compile.Compile(l.Snapshot(), "node")
		b.Run(l.String(), func(b *testing.B) {
			n := newNode(b)
			n.Apply(n.Open(), p)
			for b.Loop() {
				n.Apply(n.Open(), p)
			}
		})
	}
}

// BenchmarkRepair measures the comparison of a node that nobody changed.
func BenchmarkRepair[B Backend](b *testing.B, newNode func(testing.TB) Node[B]) {
	for _, l := range sample.Loads {
		p, _ := compile.Compile(l.Snapshot(), "node")
		b.Run(l.String(), func(b *testing.B) {
			n := newNode(b)
			backend := n.Open()
			n.Apply(backend, p)
			n.Repair(backend)
			start := cpuTime(b)
			for b.Loop() {
				n.Repair(backend)
			}
			b.ReportMetric(float64((cpuTime(b)-start).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}
