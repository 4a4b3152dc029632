//go:build netns

package iptables_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy/compile"
)

func BenchmarkUpdate(b *testing.B) {
	for _, l := range sample.Loads {
		before, _ := compile.Compile(l.Snapshot(), "node")
		for name, s := range l.Changes() {
			after, _ := compile.Compile(s, "node")
			there, back := transition.Between(before, after), transition.Between(after, before)
			b.Run(l.String()+"/"+name, func(b *testing.B) {
				n := newNode(b, iptables.NFT)
				backend := n.backend()
				n.apply(backend, before)
				start := cpuTime(b)
				n.do(func() error {
					for i := 0; b.Loop(); i++ {
						c := there
						if i%2 == 1 {
							c = back
						}
						if err := backend.Update(b.Context(), c); err != nil {
							return err
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

func BenchmarkColdStart(b *testing.B) {
	for _, l := range sample.Loads {
		p, _ := compile.Compile(l.Snapshot(), "node")
		b.Run(l.String(), func(b *testing.B) {
			for b.Loop() {
				n := newNode(b, iptables.NFT)
				n.apply(n.backend(), p)
			}
		})
	}
}

func BenchmarkRestart(b *testing.B) {
	for _, l := range sample.Loads {
		p, _ := compile.Compile(l.Snapshot(), "node")
		b.Run(l.String(), func(b *testing.B) {
			n := newNode(b, iptables.NFT)
			n.apply(n.backend(), p)
			for b.Loop() {
				n.apply(n.backend(), p)
			}
		})
	}
}

func BenchmarkRepair(b *testing.B) {
	for _, l := range sample.Loads {
		p, _ := compile.Compile(l.Snapshot(), "node")
		b.Run(l.String(), func(b *testing.B) {
			n := newNode(b, iptables.NFT)
			backend := n.backend()
			n.apply(backend, p)
			n.repair(backend)
			start := cpuTime(b)
			for b.Loop() {
				n.repair(backend)
			}
			b.ReportMetric(float64((cpuTime(b)-start).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}
