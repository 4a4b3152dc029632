package nftables

import (
	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
)

// verdict is what is done with a packet, as nft reads it: accept, drop, return, goto or jump to a chain.
type verdict string

func goTo(chain string) verdict   { return verdict("goto " + chain) }
func jumpTo(chain string) verdict { return verdict("jump " + chain) }

func (v verdict) nftText() string { return string(v) }

func (v verdict) encodeTerm(e *nfnetlink.Expressions) bool { return e.AddVerdict(string(v)) }
