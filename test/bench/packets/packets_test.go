//go:build netns

// Package packets measures what a packet costs under the rules of both backends, as ratios to a
// node that tracks connections and has one rule, which is the floor for anything that keeps state.
//
// Everything is measured in one run, side by side: each case in slices of some milliseconds, a slice of
// the floor before and one after it, and a ratio is the median over all rounds. 1 is as
// fast as the floor, 0.5 half as fast.
package packets

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

const (
	rounds = 41
	slice  = 8 * time.Millisecond
)

// kinds are the kinds of traffic.
var kinds = []struct {
	name  string
	start func(*testing.B, *site) flow
}{
	{"established", established},
	{"one-way UDP", oneWay},
	{"the same from elsewhere", fromElsewhere},
	{"TCP connections", newConnections},
}

// row is a case, and its ratios, one a kind of traffic.
type row struct {
	site   *site
	load   *load // nil where nothing is enforced
	engine string
	ratios []float64
}

func BenchmarkRatios(b *testing.B) {
	runtime.LockOSThread() // whose time is measured
	defer runtime.UnlockOSThread()
	for b.Loop() {
		floor := tracking(b)
		rows := sites(b)
		floors := make([]time.Duration, len(kinds))
		for k, kind := range kinds {
			flows := make([]flow, len(rows))
			for i, r := range rows {
				flows[i] = kind.start(b, r.site)
			}
			base := kind.start(b, floor)
			floors[k] = compare(b, kind.name, rows, flows, base)
			for _, f := range append(flows, base) {
				f.end()
			}
		}
		fmt.Println(table(rows, floors))
	}
}

// sites are all that is compared with the floor.
func sites(b *testing.B) []*row {
	rows := []*row{{site: newSite(b, "no firewall"), engine: "none"}}
	for i, l := range loads {
		fmt.Fprintf(os.Stderr, "\rrules of %d of %d clusters", i+1, len(loads))
		p := l.program()
		for _, e := range engines {
			rows = append(rows, &row{site: enforced(b, e.name+" "+l.String(), e.open, p), load: &l, engine: e.name})
		}
	}
	for _, e := range engines {
		l := load{pods: 54, policies: 100}
		r := &row{site: enforced(b, e.name+" and guard", e.open, l.program()), load: &l, engine: e.name + ", sources held"}
		r.site.guarded(b)
		rows = append(rows, r)
	}
	fmt.Fprintln(os.Stderr)
	return rows
}

// compare measures the flows against the floor's, whose median cost it returns.
func compare(b *testing.B, name string, rows []*row, flows []flow, floor flow) time.Duration {
	ratios := make([][]float64, len(rows))
	var floors []time.Duration
	for round := range rounds {
		fmt.Fprintf(os.Stderr, "\r%s: round %d of %d", name, round+1, rounds)
		before := cost(b, floor)
		for i, f := range flows {
			this := cost(b, f)
			after := cost(b, floor)
			ratios[i] = append(ratios[i], float64(before+after)/2/float64(this))
			floors = append(floors, before)
			before = after
		}
	}
	fmt.Fprintln(os.Stderr)
	for i, r := range rows {
		r.ratios = append(r.ratios, median(ratios[i]))
	}
	return median(floors)
}

func cost(b *testing.B, f flow) time.Duration {
	d, err := f.run(slice)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

func median[T float64 | time.Duration](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}
