package revoke

import (
	"maps"
	"slices"
)

// maxDenied is how many denied connections one round holds. The next round finds the rest again.
const maxDenied = 1 << 16

// backlog holds the connections to cut, by the namespace of the endpoint that they are denied for.
// If there is no room for all, the namespace with the most connections gives up some.
type backlog struct {
	room        int
	byNamespace map[string][]Connection
	size        int
	// more is true if there was no room for some.
	more bool
}

func newBacklog(room int) *backlog {
	return &backlog{room: room, byNamespace: map[string][]Connection{}}
}

func (b *backlog) addConnection(namespace string, c Connection) {
	if b.size < b.room {
		b.byNamespace[namespace] = append(b.byNamespace[namespace], c.copyForDeletion())
		b.size++
		return
	}
	b.more = true
	own := len(b.byNamespace[namespace])
	if own*max(1, len(b.byNamespace)) >= b.room {
		return // it has its share
	}
	most := namespace
	for n, list := range b.byNamespace {
		if len(list) > len(b.byNamespace[most]) {
			most = n
		}
	}
	if len(b.byNamespace[most]) <= own+1 {
		return
	}
	b.byNamespace[most] = b.byNamespace[most][:len(b.byNamespace[most])-1]
	b.byNamespace[namespace] = append(b.byNamespace[namespace], c.copyForDeletion())
}

// roundRobin are the connections, one of each namespace after the other.
func (b *backlog) roundRobin() []Connection {
	out := make([]Connection, 0, b.size)
	names := slices.Sorted(maps.Keys(b.byNamespace))
	for n := 0; len(out) < b.size; n++ {
		names = slices.DeleteFunc(names, func(name string) bool { return n >= len(b.byNamespace[name]) })
		for _, name := range names {
			out = append(out, b.byNamespace[name][n])
		}
	}
	return out
}
