//go:build netns

package change

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

func table(results []result) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\npods\tpolicies\tbackend\tcold start ms\tallowing p50\tp99\tdenying p50\tp99 ms\tCPU ms a change\tof a second of churn\tresident MB\t")
	for _, r := range results {
		fmt.Fprintf(w, "%d + %d\t%d\t%s\t%.0f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f\t%.0f\t\n", here, r.size.elsewhere, r.size.policies, r.backend,
			ms(r.cold), quantile(r.allowing, 0.5), quantile(r.allowing, 0.99), quantile(r.denying, 0.5), quantile(r.denying, 0.99),
			ms(r.each), ms(r.busy), r.resident)
	}
	w.Flush()
	return out.String()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantile of sorted durations, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	return ms(sorted[int(q*float64(len(sorted)-1)+0.5)])
}
