package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy/effect"
)

// flow is one line of the table: what passes, or no longer does, from one side to another.
type flow struct {
	direction string // of the side that says so, where it is only one
	from, to  []string
	ports     string
	via       []string
	note      string
	possible  int // how many sides do not exist yet
}

// pair is two sides.
type pair struct{ from, to string }

func pairOf(r effect.Row) pair { return pair{Peer(r.From), Peer(r.To)} }

// openedFlows are the flows that rows open: what both sides newly allow is one flow. Of the
// ports that one side newly allows and the other does not, the other may have allowed some
// before, unless all was closed then.
func openedFlows(rows []effect.Row, closedBefore bool) (out []flow, halves int) {
	others := map[pair][]effect.Row{}
	for _, r := range rows {
		if r.Direction == effect.Egress {
			others[pairOf(r)] = append(others[pairOf(r)], r)
		}
	}
	joined := map[pair]bool{}
	for _, r := range rows {
		if r.Direction != effect.Ingress {
			continue
		}
		egress := others[pairOf(r)]
		if len(egress) == 0 {
			if r.Blocked {
				halves++
			} else {
				out = append(out, oneSided(r))
			}
			continue
		}
		for _, e := range egress {
			in, eg := portsOf(r.Ports), portsOf(e.Ports)
			both := in.intersect(eg)
			exact := closedBefore && !in.hasNames() && !eg.hasNames() || in.equal(eg)
			switch {
			case both.isEmpty() && (r.Blocked || exact):
				halves++
			case exact && !both.isEmpty():
				out = append(out, bothSided(r, e, both))
				joined[pairOf(r)] = true
			default:
				out = append(out, oneSided(r), oneSided(e))
				joined[pairOf(r)] = true
			}
		}
	}
	for _, r := range rows {
		switch {
		case r.Direction != effect.Egress || joined[pairOf(r)]:
		case r.Blocked:
			halves++
		default:
			out = append(out, oneSided(r))
		}
	}
	return out, halves
}

// closedFlows are the flows that rows close: it takes one side. Where both close the same
// ports it is one flow.
func closedFlows(rows []effect.Row) (out []flow, halves int) {
	for i, r := range rows {
		same := func(o effect.Row) bool {
			return o.Direction != r.Direction && pairOf(o) == pairOf(r) && slices.Equal(o.Ports, r.Ports)
		}
		switch {
		case slices.ContainsFunc(rows[:i], same): // it is there
		case slices.ContainsFunc(rows[i:], same):
			other := rows[i:][slices.IndexFunc(rows[i:], same)]
			out = append(out, bothSided(r, other, portsOf(r.Ports)))
		case r.Direction == effect.Egress && r.Blocked:
			halves++
		default:
			out = append(out, oneSided(r))
		}
	}
	return out, halves
}

func oneSided(r effect.Row) flow {
	f := flow{direction: string(r.Direction), from: []string{Peer(r.From)}, to: []string{Peer(r.To)}, ports: strings.Join(r.Ports, ", "),
		via: refs(r.Via), possible: imagined(r)}
	if r.From.Kind == effect.CIDR || r.To.Kind == effect.CIDR {
		f.direction = "" // the other side has no policies
	}
	if r.Blocked {
		f.note = "blocked by the other side"
	}
	return f
}

func bothSided(r, other effect.Row, ports portSet) flow {
	f := oneSided(r)
	f.direction, f.note, f.ports = "", "", ports.String()
	for _, ref := range refs(other.Via) {
		if !slices.Contains(f.via, ref) {
			f.via = append(f.via, ref)
		}
	}
	return f
}

func refs(all []effect.Ref) []string {
	var out []string
	for _, r := range all {
		out = append(out, strings.TrimSpace(r.Policy+" "+r.Rule))
	}
	return out
}

// joinFlows joins flows that are alike but for one side: IPv4 and IPv6, networks of one
// rule, and pods that do the same.
func joinFlows(all []flow) []flow {
	all = slices.SortedStableFunc(slices.Values(all), func(a, b flow) int { return a.possible - b.possible })
	all = joinBy(all, func(f flow) string {
		return strings.Join([]string{f.direction, strings.Join(f.to, ","), f.ports, strings.Join(f.via, ","), f.note}, "\x00")
	}, func(f *flow) *[]string { return &f.from })
	all = joinBy(all, func(f flow) string {
		return strings.Join([]string{f.direction, strings.Join(f.from, ","), f.ports, strings.Join(f.via, ","), f.note}, "\x00")
	}, func(f *flow) *[]string { return &f.to })
	return joinBy(all, func(f flow) string {
		return strings.Join([]string{f.direction, strings.Join(f.to, ","), f.ports, f.note, fmt.Sprint(f.possible)}, "\x00")
	}, func(f *flow) *[]string { return &f.from })
}

func joinBy(all []flow, key func(flow) string, side func(*flow) *[]string) []flow {
	var out []flow
	at := map[string]int{}
	for _, f := range all {
		k := key(f)
		i, ok := at[k]
		if !ok {
			at[k] = len(out)
			out = append(out, f)
			continue
		}
		into := side(&out[i])
		*into = append(slices.Clip(*into), *side(&f)...)
		for _, v := range f.via {
			if !slices.Contains(out[i].via, v) {
				out[i].via = append(slices.Clip(out[i].via), v)
			}
		}
	}
	return out
}

// cells are a flow as a row of the table.
func (f flow) cells() []string {
	return []string{shorten(cut(f.from, 2)), "→", shorten(cut(f.to, 2)), shorten(f.ports), cut(f.via, 2), strings.TrimSpace(f.note + " " + oneSide(f.direction))}
}

// maxCell is how many characters of a cell are shown.
const maxCell = 72

func shorten(text string) string {
	if runes := []rune(text); len(runes) > maxCell {
		return string(runes[:maxCell-1]) + "…"
	}
	return text
}

func oneSide(direction string) string {
	if direction == "" {
		return ""
	}
	return "(" + direction + ")"
}

// cut is a list of which the first entries are shown.
func cut(list []string, show int) string {
	if len(list) <= show+1 {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:show], ", "), len(list)-show)
}
