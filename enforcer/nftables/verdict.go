package nftables

import "strings"

// verdict is what is done with a packet, as nft reads it: accept, drop, return, goto or jump to a chain.
type verdict string

// codes are those of linux/netfilter.h and linux/netfilter/nf_tables.h.
var codes = map[string]int32{"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}

func goTo(chain string) verdict   { return verdict("goto " + chain) }
func jumpTo(chain string) verdict { return verdict("jump " + chain) }

// code is the verdict as the kernel has it; ok says that it is one.
func (v verdict) code() (code int32, chain string, ok bool) {
	name, chain, leads := strings.Cut(string(v), " ")
	code, ok = codes[name]
	return code, chain, ok && leads == (name == "goto" || name == "jump")
}

func (v verdict) text() string { return string(v) }

func (v verdict) express(e *expressions) bool { return e.immediate(v) }
