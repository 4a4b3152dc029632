//go:build netns

package packets

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// table is the result: how fast each case is, as a ratio to the floor.
func table(rows []*row, floors []time.Duration) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "\nengine\tlocal pods\tpolicies\tof the server\t")
	for _, k := range kinds {
		fmt.Fprint(w, k.name, "\t")
	}
	fmt.Fprint(w, "\ntracking alone\t\t\t\t")
	for _, f := range floors {
		fmt.Fprintf(w, "1 (%v)\t", f)
	}
	fmt.Fprintln(w)
	for _, r := range rows {
		if r.load == nil {
			fmt.Fprintf(w, "%s\t\t\t\t", r.site.name)
		} else {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t", r.engine, r.load.pods, r.load.policies, r.load.selecting())
		}
		for _, ratio := range r.ratios {
			fmt.Fprintf(w, "%.2f\t", ratio)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return out.String()
}
