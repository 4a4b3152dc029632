package nftables

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// datatype is the type of a field of a set's keys, as nft numbers it (nftables/include/datatype.h), and its size in bytes.
type datatype struct {
	number uint32
	size   int
	// order is the byte order of a set of such keys (enum byteorder).
	order uint32
}

const (
	noOrder, hostOrder, networkOrder = 0, 1, 2
	// typeBits is how far the numbers of types are apart in that of a concatenation.
	typeBits = 6
)

var datatypes = map[string]datatype{
	"ipv4_addr":    {7, 4, networkOrder},
	"ipv6_addr":    {8, 16, networkOrder},
	"inet_proto":   {12, 1, hostOrder},
	"inet_service": {13, 2, networkOrder},
}

// concatenation are the types of a set's keys, field by field.
type concatenation []datatype

func parseType(text string) (out concatenation, ok bool) {
	for name := range strings.SplitSeq(text, " . ") {
		d, known := datatypes[name]
		if !known {
			return nil, false
		}
		out = append(out, d)
	}
	return out, true
}

// whole is the type of the whole key, each of whose fields takes as many words as it needs; one
// field alone takes its size.
func (c concatenation) whole() datatype {
	if len(c) == 1 {
		return c[0]
	}
	out := datatype{order: noOrder}
	for _, d := range c {
		out.number = out.number<<typeBits | d.number
		out.size += (d.size + 3) &^ 3
	}
	return out
}

// key gives the first and the last of the keys that a text as ours stands for.
func (c concatenation) key(text string) (first, last []byte, ok bool) {
	texts := strings.Split(text, " . ")
	if len(texts) != len(c) {
		return nil, nil, false
	}
	for i, d := range c {
		low, high, ok := d.values(texts[i])
		if !ok {
			return nil, nil, false
		}
		first, last = append(first, low...), append(last, high...)
		for len(c) > 1 && len(first)%4 != 0 {
			first, last = append(first, 0), append(last, 0)
		}
	}
	return first, last, true
}

// values are the ends of a field's range, which may be one value.
func (d datatype) values(text string) (first, last []byte, ok bool) {
	if d.size >= 4 {
		b, err := parseBlock(text)
		for _, end := range []netip.Addr{b.first, b.last} {
			if err != nil || end.BitLen() != 8*d.size || end.Zone() != "" {
				return nil, nil, false
			}
		}
		return b.first.AsSlice(), b.last.AsSlice(), !b.last.Less(b.first)
	}
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	low, err := strconv.ParseUint(from, 10, 8*d.size)
	high, err2 := strconv.ParseUint(to, 10, 8*d.size)
	return bigEndian(low, d.size), bigEndian(high, d.size), err == nil && err2 == nil && low <= high
}

func bigEndian(n uint64, size int) []byte {
	out := make([]byte, size)
	for i := range out {
		out[size-1-i] = byte(n >> (8 * i))
	}
	return out
}

// after is the key after this one; none is after the last.
func after(key []byte) ([]byte, bool) {
	out := slices.Clone(key)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			return out, true
		}
	}
	return nil, false
}
