package nftables

import (
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
	"github.com/tierwall/tierwall/policy"
)

// block is a range of addresses of one family.
type block struct{ first, last netip.Addr }

func blockOf(p netip.Prefix) block { return block{p.Masked().Addr(), nfnetlink.LastAddress(p)} }

// nftText is the block as nft prints it: an address, a prefix, or a range.
func (b block) nftText() string {
	if b.first == b.last {
		return b.first.String()
	}
	for bits := b.first.BitLen() - 1; bits >= 0; bits-- {
		p := netip.PrefixFrom(b.first, bits)
		if p.Masked().Addr() != b.first || blockOf(p).last.Compare(b.last) > 0 {
			break
		}
		if blockOf(p).last == b.last {
			return p.String()
		}
	}
	return b.first.String() + "-" + b.last.String()
}

// blocksOf are the addresses of a policy's networks in a family, less their exceptions.
func blocksOf(f family, networks []policy.Element) []block {
	var out []block
	for i := 0; i < len(networks); {
		around := networks[i]
		i++
		if around.Except || !f.hasAddress(around.Prefix.Addr()) {
			continue // an exception without its network takes nothing away
		}
		rest, open := blockOf(around.Prefix), true
		for ; i < len(networks) && networks[i].Except && around.Prefix.Contains(networks[i].Prefix.Addr()); i++ {
			hole := blockOf(networks[i].Prefix)
			if hole.first != rest.first {
				out = append(out, block{rest.first, hole.first.Prev()})
			}
			if open = hole.last != rest.last; open {
				rest.first = hole.last.Next()
			}
		}
		if open {
			out = append(out, rest)
		}
	}
	return out
}

// mergeBlocks are the same addresses in the fewest blocks, sorted.
func mergeBlocks(in []block) []block {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b block) int { return a.first.Compare(b.first) })
	var out []block
	for _, b := range in {
		if n := len(out) - 1; n >= 0 && (b.first.Compare(out[n].last) <= 0 || out[n].last.Next() == b.first) {
			if b.last.Compare(out[n].last) > 0 {
				out[n].last = b.last
			}
			continue
		}
		out = append(out, b)
	}
	return out
}
