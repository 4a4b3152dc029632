// Package diff shows the effect of a change: as a table, and as JSON.
package diff

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/cli/report"
	"github.com/tierwall/tierwall/internal/unenforced"
	"github.com/tierwall/tierwall/policy/effect"
)

// Schema is the version of the JSON form.
const Schema = "tierwall.io/diff/v1"

// Document is an effect as JSON: what guardrails see as input.effect.
type Document struct {
	Schema string `json:"schema"`
	effect.Effect
	// Unenforced are policies that other engines enforce, and the effect does not know.
	Unenforced []unenforced.Count `json:"unenforced,omitempty"`
}

// DocumentOf is the JSON form of an effect.
func DocumentOf(e effect.Effect, others []unenforced.Count) Document {
	return Document{Schema, e, others}
}

// table is rows of cells, aligned.
type table struct {
	title string
	sign  string
	paint func(string) string
	rows  [][]string
}

// Options say how an effect is shown.
type Options struct {
	// Sides shows what each side lets pass by itself, and not flows; All shows what the other
	// side blocks too, and cuts nothing.
	Sides, All bool
	// ClosedBefore reports whether nothing passed before the change.
	ClosedBefore bool
	// Families reports whether pods have addresses of IPv4 and of IPv6; neither is not known.
	Families [2]bool
}

// maxLines is how many lines of a table are shown.
const maxLines = 40

// Text writes an effect for people: as flows, which pass where both sides let them.
func Text(out io.Writer, style report.Style, e effect.Effect, o Options) error {
	w := bufio.NewWriter(out)
	absent := 0
	if !o.All {
		e, absent = withoutAbsentFamily(e, o.Families)
	}
	tables, hidden := flowTables(style, e, o)
	if o.Sides || o.All {
		tables, hidden = sideTables(style, e, o)
	}
	tables = append(tables, table{"newly isolated", "-", style.Good, isolations(e.NewlyIsolated)},
		table{"no longer isolated", "+", style.Bad, isolations(e.NoLongerIsolated)})
	empty := true
	for _, t := range tables {
		if len(t.rows) == 0 {
			continue
		}
		empty = false
		fmt.Fprintf(w, "%s\n", style.Strong(fmt.Sprintf("%s (%d)", t.title, len(t.rows))))
		more := 0
		if !o.All && len(t.rows) > maxLines+1 {
			more = len(t.rows) - maxLines
			t.rows = t.rows[:maxLines]
		}
		t.write(w)
		if more > 0 {
			fmt.Fprintf(w, "     %s\n", style.Faint(fmt.Sprintf("and %d more; --all shows them", more)))
		}
		fmt.Fprintln(w)
	}
	for _, why := range e.Incomplete {
		fmt.Fprintln(w, style.Bad("not complete: "+why))
	}
	if e.Truncated {
		fmt.Fprintln(w, style.Notice(fmt.Sprintf("only %d rows are known of each", effect.MaxRows)))
	}
	if hidden != "" {
		fmt.Fprintln(w, style.Faint(hidden))
	}
	if absent > 0 {
		fmt.Fprintln(w, style.Faint(fmt.Sprintf("not shown: %d rows of %s networks, as no pod has such an address; --all shows them", absent, absentFamily(o.Families))))
	}
	if empty && e.Complete && hidden == "" {
		fmt.Fprintln(w, "nothing is opened or closed")
	}
	return w.Flush()
}

// flowTables are the flows that are opened and closed, and what is said of the rest.
func flowTables(style report.Style, e effect.Effect, o Options) (tables []table, hidden string) {
	opened, halves := openedFlows(e.Added, o.ClosedBefore)
	closed, more := closedFlows(e.Removed)
	for _, t := range []struct {
		table
		flows []flow
	}{{table{title: "opened", sign: "+", paint: style.Bad}, opened}, {table{title: "closed", sign: "-", paint: style.Good}, closed}} {
		for _, f := range joinFlows(t.flows) {
			t.rows = append(t.rows, f.cells())
		}
		tables = append(tables, t.table)
	}
	if halves += more; halves > 0 {
		hidden = fmt.Sprintf("not shown: %d rows of one side that the other side blocks; --all shows them", halves)
	}
	return tables, hidden
}

// sideTables are what each side lets pass by itself. What the other side blocks on egress
// opens and closes nothing, and is counted unless all is wanted.
func sideTables(style report.Style, e effect.Effect, o Options) (tables []table, hidden string) {
	opened, closed := e.Added, e.Removed
	if !o.All {
		opened, closed = passing(e.Added), passing(e.Removed)
	}
	if blocked := len(e.Added) + len(e.Removed) - len(opened) - len(closed); blocked > 0 {
		hidden = fmt.Sprintf("not shown: %d rows of egress that the ingress of the other side blocks; --all shows them", blocked)
	}
	return []table{{"opened", "+", style.Bad, rows(opened)}, {"closed", "-", style.Good, rows(closed)}}, hidden
}

// passing are the rows but for egress that the other side blocks.
func passing(all []effect.Row) []effect.Row {
	var out []effect.Row
	for _, r := range all {
		if r.Direction != effect.Egress || !r.Blocked {
			out = append(out, r)
		}
	}
	return out
}

// rows are the cells of what is opened or closed: from, to, ports, by.
func rows(all []effect.Row) [][]string {
	all = slices.SortedStableFunc(slices.Values(all), func(a, b effect.Row) int { return imagined(a) - imagined(b) })
	var out [][]string
	for _, r := range all {
		note := ""
		switch {
		case r.Blocked && r.Direction == effect.Egress:
			note = "blocked by the ingress of the other side"
		case r.Blocked:
			note = "blocked by the egress of the other side"
		}
		out = append(out, []string{string(r.Direction), Peer(r.From), "→", Peer(r.To), strings.Join(r.Ports, ", "), strings.Join(refs(r.Via), ", "), note})
	}
	return out
}

// imagined is how many sides of a row do not exist yet.
func imagined(r effect.Row) int {
	n := 0
	for _, p := range []effect.Peer{r.From, r.To} {
		if p.Kind == effect.Class {
			n++
		}
	}
	return n
}

func isolations(all []effect.Isolation) [][]string {
	var out [][]string
	for _, i := range all {
		out = append(out, []string{string(i.Direction), Peer(i.Subject)})
	}
	return out
}

// Peer is a side in a few words.
func Peer(p effect.Peer) string {
	switch p.Kind {
	case effect.CIDR:
		name := p.Name
		if len(p.Except) > 0 {
			name += " but " + strings.Join(p.Except, ", ")
		}
		return name
	case effect.Workload:
		name := p.Namespace + "/" + p.Name
		if p.Pods > 1 {
			name += fmt.Sprintf(" and %d more", p.Pods-1)
		}
		return name + role(p.Role)
	}
	where := p.Namespace
	switch {
	case where == "" && len(p.NamespaceLabels) > 0:
		where = "any namespace {" + labels(p.NamespaceLabels) + "}"
	case where == "":
		where = "any namespace"
	}
	what := "any pod"
	if own := labels(p.Labels); own != "" {
		what += " {" + own + "}"
	}
	return where + "/" + what + role(p.Role)
}

func role(r string) string {
	if r == "" {
		return ""
	}
	return " (" + r + ")"
}

// labels are such as app=web,track=stable, without the role.
func labels(all map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if k != "tierwall.io/tier-role" {
			out = append(out, k+"="+all[k])
		}
	}
	return strings.Join(out, ",")
}

func (t table) write(w io.Writer) {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, row := range t.rows {
		var b strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&b, "  %-*s", widths[i], cell)
		}
		fmt.Fprintf(w, "  %s%s\n", t.paint(t.sign), strings.TrimRight(b.String(), " "))
	}
}
