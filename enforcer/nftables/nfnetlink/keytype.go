package nfnetlink

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
	// typeBits is how many bits each field's number has in that of a concatenation.
	typeBits = 6
)

var datatypes = map[string]datatype{
	"ipv4_addr":    {7, 4, networkOrder},
	"ipv6_addr":    {8, 16, networkOrder},
	"inet_proto":   {12, 1, hostOrder},
	"inet_service": {13, 2, networkOrder},
}

// KeyType is the type of a set's keys, field by field.
type KeyType []datatype

// ParseKeyType reads a type as nft prints it, such as "ipv4_addr . inet_proto . inet_service".
func ParseKeyType(text string) (out KeyType, ok bool) {
	for name := range strings.SplitSeq(text, " . ") {
		d, known := datatypes[name]
		if !known {
			return nil, false
		}
		out = append(out, d)
	}
	return out, true
}

// concatenated is the type of the whole key, each of whose fields takes as many words as it needs; one
// field alone takes its size.
func (c KeyType) concatenated() datatype {
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

// encodeKey returns the first and the last key of the range that a text stands for.
func (c KeyType) encodeKey(text string) (first, last []byte, ok bool) {
	texts := strings.Split(text, " . ")
	if len(texts) != len(c) {
		return nil, nil, false
	}
	for i, d := range c {
		low, high, ok := d.encodeValues(texts[i])
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

// encodeValues are the ends of a field's range, which may be one value.
func (d datatype) encodeValues(text string) (first, last []byte, ok bool) {
	if d.size >= 4 {
		from, to, err := ParseRange(text)
		for _, end := range []netip.Addr{from, to} {
			if err != nil || end.BitLen() != 8*d.size || end.Zone() != "" {
				return nil, nil, false
			}
		}
		return from.AsSlice(), to.AsSlice(), !to.Less(from)
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

// nextKey is the key after this one; none is after the last.
func nextKey(key []byte) ([]byte, bool) {
	out := slices.Clone(key)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			return out, true
		}
	}
	return nil, false
}

// ParseRange reads an address, a prefix or a range of addresses.
func ParseRange(text string) (first, last netip.Addr, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if p, err := netip.ParsePrefix(from); err == nil {
		return p.Masked().Addr(), LastAddress(p), nil
	}
	if first, err = netip.ParseAddr(from); err != nil || !isRange {
		return first, first, err
	}
	last, err = netip.ParseAddr(to)
	return first, last, err
}

// LastAddress returns the last address of a prefix.
func LastAddress(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}
