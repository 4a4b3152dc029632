package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// table prints rows of values in aligned columns.
type table struct{ rows [][]any }

func newTable(head ...any) *table { return &table{rows: [][]any{head}} }

func (t *table) add(row ...any) { t.rows = append(t.rows, row) }

func (t *table) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 3, ' ', tabwriter.AlignRight)
	for _, row := range t.rows {
		for _, v := range row {
			if d, ok := v.(time.Duration); ok {
				v = rounded(d)
			}
			fmt.Fprintf(w, "%v\t", v)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Fprintln(to)
}

// rounded is a duration of three digits.
func rounded(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(d)/float64(time.Microsecond))
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	default:
		return fmt.Sprintf("%.3g s", d.Seconds())
	}
}

// ratio is how many times more one thing is than another.
type ratio float64

func (r ratio) String() string {
	if r < 100 {
		return fmt.Sprintf("%.1f", float64(r))
	}
	return fmt.Sprintf("%.0f", float64(r))
}

// bytes is an amount of memory.
type bytes uint64

func (b bytes) String() string { return fmt.Sprintf("%.1f MB", float64(b)/1e6) }
