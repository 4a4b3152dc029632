package effect

import (
	"cmp"
	"maps"
	"slices"
)

// rowList are rows as they are found, no more than a limit. When there are more,
// what tells pods of one namespace and role apart is left out first; then rows
// are cut off. So memory is bounded however much is found.
type rowList struct {
	limit int
	list  []Row
	keys  []findingKey
	// index is where the merged rows are; nil while none is merged.
	index     map[findingKey]int
	truncated bool
}

func (r *rowList) addFinding(f finding) {
	key := f.mergeKey()
	if r.index == nil && len(r.list) < r.limit {
		r.list, r.keys = append(r.list, f.toRow()), append(r.keys, key)
		return
	}
	if r.index == nil {
		r.mergeAll()
	}
	i, ok := r.index[key]
	switch {
	case ok:
		from, to := f.fromAndTo()
		r.list[i].mergeSides(from, to)
	case len(r.list) == r.limit:
		r.truncated = true
	default:
		r.index[key] = len(r.list)
		r.list = append(r.list, f.toRow())
	}
}

// mergeAll merges the rows that there are.
func (r *rowList) mergeAll() {
	exact := r.list
	r.list, r.index = nil, map[findingKey]int{}
	for n, row := range exact {
		if i, ok := r.index[r.keys[n]]; ok {
			r.list[i].mergeSides(row.From, row.To)
			continue
		}
		r.index[r.keys[n]] = len(r.list)
		r.list = append(r.list, row)
	}
}

func (r *rowList) sortedRows() []Row {
	slices.SortFunc(r.list, compareRows)
	return r.list
}

// mergeSides makes a row stand for other sides too.
func (row *Row) mergeSides(from, to Peer) {
	row.From, row.To = commonPeer(row.From, from), commonPeer(row.To, to)
}

// commonPeer is what two sides have in common. Pods of a side may be in several
// rows that are merged, so that their number is that of the largest.
func commonPeer(a, b Peer) Peer {
	a.Labels, a.Pods = commonLabels(a.Labels, b.Labels), max(a.Pods, b.Pods)
	return a
}

func compareRows(a, b Row) int {
	if c := compareText(string(a.Direction), string(b.Direction)); c != 0 {
		return c
	}
	if c := comparePeers(&a.To, &b.To); c != 0 {
		return c
	}
	if c := comparePeers(&a.From, &b.From); c != 0 {
		return c
	}
	return cmp.Or(slices.Compare(a.Ports, b.Ports), slices.CompareFunc(a.Via, b.Via, compareRefs))
}

func comparePeers(a, b *Peer) int {
	c := cmp.Or(
		compareText(string(a.Kind), string(b.Kind)), compareText(a.Namespace, b.Namespace),
		compareText(a.Role, b.Role), compareText(a.Name, b.Name))
	if c != 0 {
		return c
	}
	return cmp.Or(compareLabels(a.Labels, b.Labels), compareLabels(a.NamespaceLabels, b.NamespaceLabels))
}

func compareLabels(a, b map[string]string) int {
	if maps.Equal(a, b) {
		return 0
	}
	return compareText(labelsKey(a), labelsKey(b))
}
