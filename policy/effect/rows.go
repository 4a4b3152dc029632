package effect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// maxPairs is how many pairs of groups are compared; of more the effect is not computed.
const maxPairs = 4_000_000

// directionOf is a direction as rows show it.
var directionOf = map[policy.Direction]Direction{policy.Ingress: Ingress, policy.Egress: Egress}

// rower collects the rows of what one moment allows and the other does not.
type rower struct {
	*comparison
	from, to moment
	names    func(policy.RuleID, policy.Protocol) []string
	rows     []Row
}

// collect compares all touched subjects with all peers and networks, in their
// order. It is false when there are too many.
func (r *rower) collect() bool {
	for _, d := range policy.Directions {
		subjects := r.touched(d)
		if len(subjects)*len(r.members) > maxPairs {
			return false
		}
		for _, s := range subjects {
			for _, p := range r.members {
				r.addPods(d, s, p)
			}
			for _, n := range r.networks {
				r.addNetwork(d, s, n, nil)
			}
		}
	}
	return true
}

func (r *rower) addPods(d policy.Direction, s, p *standIn) {
	o := r.openedTo(r.from, r.to, s, d, p)
	if o.none() || p.kinds[r.to] == nil || s.kinds[r.to] == nil {
		return
	}
	row := r.row(d, o, s, r.describe(p, r.to))
	if len(row.Ports) == 0 {
		return // port 0, which no flow has
	}
	row.Blocked = r.blocked(r.to, o, s, d, p)
	row.Potential = row.Blocked || s.pods == 0 || p.pods == 0
	r.rows = append(r.rows, row)
}

// addNetwork adds a row of a network unless the one around it has the same.
func (r *rower) addNetwork(d policy.Direction, s *standIn, n *network, around []string) (ports []string) {
	if s.kinds[r.to] == nil {
		return nil
	}
	at := -1
	if n.probe.IsValid() {
		if o := r.opened(r.from, r.to, s, d, n.probe); !o.none() {
			row := r.row(d, o, s, Peer{Kind: CIDR, Name: n.prefix.String(), NamespaceLabels: map[string]string{}, Labels: map[string]string{}})
			row.Potential = s.pods == 0
			ports = row.Ports
			if len(ports) > 0 && !slices.Equal(ports, around) {
				at = len(r.rows)
				r.rows = append(r.rows, row)
			}
		}
	} else {
		ports = around // nothing is left of it but what is within
	}
	var except []string
	for _, w := range n.within {
		if inner := r.addNetwork(d, s, w, ports); !slices.Equal(inner, ports) {
			except = append(except, w.prefix.String())
		}
	}
	if at >= 0 {
		slices.Sort(except)
		side := &r.rows[at].From
		if d == policy.Egress {
			side = &r.rows[at].To
		}
		side.Except = except
	}
	return ports
}

func (r *rower) row(d policy.Direction, o *opening, s *standIn, peer Peer) Row {
	row := Row{Direction: directionOf[d], From: peer, To: r.describe(s, r.to), Ports: o.text(r.spans, r.names)}
	if d == policy.Egress {
		row.From, row.To = row.To, row.From
	}
	for _, w := range o.via {
		row.Via = append(row.Via, refOf(w, s))
	}
	slices.SortFunc(row.Via, compareRefs)
	return row
}

func compareRefs(a, b Ref) int {
	return cmp.Or(compareText(a.Policy, b.Policy), compareText(a.Rule, b.Rule))
}

// refOf is what decided, in words where it was no policy.
func refOf(w policy.Why, s *standIn) Ref {
	if w.Tier == policy.DefaultTier {
		return Ref{Policy: "default action of namespace " + s.namespace.name}
	}
	return Ref{Policy: w.Rule.Object(), Rule: w.Rule.Field}
}

// describe is a group as a side of a row. The labels are shared by all rows of the group.
func (c *comparison) describe(s *standIn, m moment) Peer {
	if p := c.described[m][s]; p != nil {
		return *p
	}
	k := s.kinds[m]
	p := &Peer{Kind: Workload, Namespace: s.namespace.name, NamespaceLabels: s.namespace.labels[m],
		Name: s.first, Role: k.role, Labels: k.labels, Pods: s.pods}
	if s.pods == 0 {
		p.Kind = Class
	}
	if s.namespace.imagined {
		p.Namespace = ""
	}
	if p.NamespaceLabels == nil {
		p.NamespaceLabels = map[string]string{}
	}
	c.described[m][s] = p
	return *p
}

func compareRows(a, b Row) int {
	return cmp.Or(
		compareText(string(a.Direction), string(b.Direction)),
		comparePeers(a.To, b.To), comparePeers(a.From, b.From),
		slices.Compare(a.Ports, b.Ports),
		slices.CompareFunc(a.Via, b.Via, compareRefs))
}

func comparePeers(a, b Peer) int {
	return cmp.Or(
		compareText(string(a.Kind), string(b.Kind)), compareText(a.Namespace, b.Namespace),
		compareText(a.Role, b.Role), compareText(a.Name, b.Name),
		compareText(canonical(a.Labels), canonical(b.Labels)),
		compareText(canonical(a.NamespaceLabels), canonical(b.NamespaceLabels)))
}

// fit brings rows down to the limit: first by leaving out what tells pods of
// one namespace and role apart, then by cutting them off.
func fit(rows []Row, limit int) (fitting []Row, truncated bool) {
	if len(rows) > limit {
		rows = coarse(rows)
	}
	if len(rows) > limit {
		rows, truncated = rows[:limit], true
	}
	slices.SortFunc(rows, compareRows)
	return rows, truncated
}

// coarse merges rows that differ only in names and labels of their pods.
func coarse(rows []Row) []Row {
	index := map[string]int{}
	var out []Row
	for _, row := range rows {
		var key strings.Builder
		for _, p := range []Peer{row.From, row.To} {
			fmt.Fprintf(&key, "%q %q %q %q ", p.Kind, p.Namespace, p.Role, canonical(p.NamespaceLabels))
			if p.Kind == CIDR {
				fmt.Fprintf(&key, "%q %q ", p.Name, p.Except)
			}
		}
		fmt.Fprintf(&key, "%q %q %q %v %v", row.Direction, row.Ports, row.Via, row.Potential, row.Blocked)
		i, ok := index[key.String()]
		if !ok {
			index[key.String()] = len(out)
			out = append(out, row)
			continue
		}
		out[i].From, out[i].To = common(out[i].From, row.From), common(out[i].To, row.To)
	}
	return out
}

// common is what two sides have in common. Pods of a side may be in several
// rows that are merged, so that their number is that of the largest.
func common(a, b Peer) Peer {
	labels := map[string]string{}
	for k, v := range a.Labels {
		if w, ok := b.Labels[k]; ok && v == w {
			labels[k] = v
		}
	}
	a.Labels, a.Pods = labels, max(a.Pods, b.Pods)
	return a
}
