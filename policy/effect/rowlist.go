package effect

import (
	"slices"
)

// rowList collects rows up to a limit. Beyond it, rows are first merged that differ only in pods of one namespace and
// role, and then cut off.
type rowList struct {
	limit int
	list  []Row
	keys  []findingKey
	// index is the position of merged rows; nil while none is merged.
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

// mergeSides makes a row stand for further sides.
func (row *Row) mergeSides(from, to Peer) {
	row.From, row.To = commonPeer(row.From, from), commonPeer(row.To, to)
}

// commonPeer returns what two sides have in common. The rows may share pods, so that the larger number counts.
func commonPeer(a, b Peer) Peer {
	a.Labels, a.Pods = commonLabels(a.Labels, b.Labels), max(a.Pods, b.Pods)
	return a
}
