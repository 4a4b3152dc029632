package effect

import (
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
