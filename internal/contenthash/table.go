package contenthash

// Table holds values by an ID of their content: its hash, or, where another content with the same hash came
// first, the hash and a number. The zero value is not usable.
type Table[ID ~string, V any] struct {
	values map[ID]V
	// last is the highest number given for a hash, where that is more than one.
	last map[ID]int
}

// NewTable is an empty table.
func NewTable[ID ~string, V any]() Table[ID, V] {
	return Table[ID, V]{values: map[ID]V{}, last: map[ID]int{}}
}

// Find returns the value with a hash whose content is the same, and its ID. If there is none it returns the ID
// to put it under.
func (t *Table[ID, V]) Find(hash ID, same func(V) bool) (value V, id ID, found bool) {
	last := max(1, t.last[hash])
	unused := last + 1
	for n := last; n > 0; n-- {
		id := Numbered(hash, n)
		v, used := t.values[id]
		if used && same(v) {
			return v, id, true
		}
		if !used {
			unused = n
		}
	}
	return value, Numbered(hash, unused), false
}

// Put puts a value under the ID that Find returned for the hash.
func (t *Table[ID, V]) Put(hash, id ID, v V) {
	t.values[id] = v
	if last := max(1, t.last[hash]); id == Numbered(hash, last+1) {
		t.last[hash] = last + 1
	}
}

// Remove removes the value with the ID.
func (t *Table[ID, V]) Remove(id ID) { delete(t.values, id) }

// All are the values by ID, which must not be changed.
func (t *Table[ID, V]) All() map[ID]V { return t.values }
