package nft

import (
	"fmt"

	"github.com/tierwall/tierwall/enforcer/run"
	"github.com/tierwall/tierwall/policy"
)

// key is a policy's element as nft prints it with numbers for names.
func key(e policy.Element) string {
	text := blockOf(e.Prefix).text()
	if e.Protocol != 0 {
		text += fmt.Sprintf(" . %d . %d", e.Protocol, e.Port)
	}
	return text
}

func policyElements(in map[policy.Element]bool) map[string]Element {
	out := make(map[string]Element, len(in))
	for e := range in {
		out[key(e)] = Element{}
	}
	return out
}

func spanElements(in []run.Span) map[string]Element {
	out := make(map[string]Element, len(in))
	for _, s := range in {
		out[spanText(s)] = Element{}
	}
	return out
}

func blockElements(in []block) map[string]Element {
	out := make(map[string]Element, len(in))
	for _, b := range in {
		out[b.text()] = Element{}
	}
	return out
}

func areaElements(in []area) map[string]Element {
	out := make(map[string]Element, len(in))
	for _, a := range in {
		for _, s := range a.ports {
			out[a.text()+" . "+spanText(s)] = Element{}
		}
	}
	return out
}

// members are elements of a policy's set in a family, as they are in the kernel.
func members(f family, kind policy.SetKind, in []policy.Element) map[string]Element {
	out := make(map[string]Element, len(in))
	if kind == policy.Networks {
		return blockElements(union(blocksOf(f, in)))
	}
	for _, e := range in {
		if f.has(e.Prefix.Addr()) {
			out[key(e)] = Element{}
		}
	}
	return out
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
