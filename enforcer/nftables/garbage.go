package nftables

import (
	"maps"
	"slices"
)

// garbage are chains and sets that no rule in force refers to any more. A packet that
// came before the last transaction may still see them, so they go with the next one.
type garbage struct {
	chains map[string]bool
	// sets are by name; only their kind is known.
	sets map[string]Set
}

func (g garbage) isEmpty() bool { return len(g.chains)+len(g.sets) == 0 }

// deleteAll deletes the garbage. It may refer to itself, so chains are emptied first, and
// maps, which lead to chains, go before these.
func (g garbage) deleteAll(t *transaction) {
	chains, sets := slices.Sorted(maps.Keys(g.chains)), slices.Sorted(maps.Keys(g.sets))
	for _, name := range chains {
		t.addCommand(chainCommand{empty, name, ""})
	}
	for _, name := range sets {
		t.deleteSet(name, g.sets[name])
	}
	for _, name := range chains {
		t.addCommand(chainCommand{remove, name, ""})
	}
}
