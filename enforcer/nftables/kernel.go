package nftables

import (
	"context"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
)

// kernel is what the Backend needs of nf_tables.
type kernel interface {
	// Run commits a transaction. It returns the kernel's generation afterwards, and whether no other process
	// changed a table since the generation that is known.
	Run(ctx context.Context, t *transaction, known uint32) (generation uint32, alone bool, err error)
	// Settle waits until no packet is on its way that came before the last transaction.
	Settle(ctx context.Context) error
	// List reads our table. Where nothing is wanted it leaves the elements of sets out; a set that is as wanted shares
	// its elements with the wanted one. Where there is no table, nothing is listed.
	List(ctx context.Context, want *Ruleset) (listing, error)
	// Rules reads the rules of our table, by chain.
	Rules() (map[string][]nfnetlink.Rule, error)
	// Generation is the number of changes that anybody made to any table.
	Generation() (uint32, error)
}
