package nftables

import (
	"fmt"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/policy"
)

// elementKey is a policy's element as nft prints it with numbers for names.
func elementKey(e policy.Element) string {
	text := blockOf(e.Prefix).nftText()
	if e.Protocol != 0 {
		text += fmt.Sprintf(" . %d . %d", e.Protocol, e.Port)
	}
	return text
}

func spanElements(in []rulegroup.Span) map[string]Element {
	out := make(map[string]Element, len(in))
	for _, s := range in {
		out[spanText(s)] = Element{}
	}
	return out
}

func blockElements(in []block) map[string]Element {
	out := make(map[string]Element, len(in))
	for _, b := range in {
		out[b.nftText()] = Element{}
	}
	return out
}

// addMembers adds elements of a policy's set of a family, as they are in the kernel.
func addMembers(to map[string]Element, f family, in []policy.Element) {
	for _, e := range in {
		if f.hasAddress(e.Prefix.Addr()) {
			to[elementKey(e)] = Element{}
		}
	}
}

// setOf is an empty set of a kind in a family.
func setOf(f family, kind policy.SetKind) Set {
	switch kind {
	case policy.AddressPorts:
		return Set{Type: f.addressType() + " . inet_proto . inet_service"}
	case policy.Networks:
		return Set{Type: f.addressType(), Interval: true}
	default:
		return Set{Type: f.addressType()}
	}
}
