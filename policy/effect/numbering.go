package effect

// numbering numbers values in the order in which they come, from 0 on.
type numbering[T comparable] struct {
	known  map[T]int
	values []T
}

func newNumbering[T comparable]() numbering[T] { return numbering[T]{known: map[T]int{}} }

func (n *numbering[T]) numberOf(value T) int {
	i, ok := n.known[value]
	if !ok {
		i = len(n.values)
		n.known[value] = i
		n.values = append(n.values, value)
	}
	return i
}
