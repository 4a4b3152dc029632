package nftables

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Registers and operations of linux/netfilter/nf_tables.h: the first register as one of 16 bytes, and
// the first of those of four.
const (
	firstRegister     = unix.NFT_REG_1
	firstWord         = unix.NFT_REG32_00
	exthdrSCTP        = 3
	exthdrFlagPresent = 1
	verdictRegister   = unix.NFT_REG_VERDICT
)

// expressions are a rule as the kernel has it, in the form that nft gives it.
type expressions struct {
	attributes
	batch *batch
	// family is the one that a packet must be of by what is there already.
	family family
}

func (e *expressions) add(name string, fill func()) {
	e.nest(unix.NFTA_LIST_ELEM, func() {
		e.text(unix.NFTA_EXPR_NAME, name)
		e.nest(unix.NFTA_EXPR_DATA, fill)
	})
}

// load loads fields into registers, from the first on. A set of ranges compares in network byte order.
func (e *expressions) load(in fields, ranges bool) {
	words := uint32(0)
	for _, f := range in {
		register := uint32(firstRegister)
		if words > 0 {
			register = firstWord + words
		}
		if f.family != 0 && f.family != e.family {
			e.familyIs(f.family)
		}
		if f.base != 0 {
			e.payload(f.base, f.offset, f.size, register)
		} else {
			e.meta(unix.NFT_META_L4PROTO, register)
		}
		if f.base == 0 && ranges {
			e.toNetworkOrder(register)
		}
		words += (f.size + 3) / 4
	}
}

func (e *expressions) familyIs(f family) {
	e.family = f
	number := byte(unix.NFPROTO_IPV4)
	if f == ipv6 {
		number = unix.NFPROTO_IPV6
	}
	e.meta(unix.NFT_META_NFPROTO, firstRegister)
	e.compare(unix.NFT_CMP_EQ, number)
}

func (e *expressions) meta(key, register uint32) {
	e.add("meta", func() {
		e.number(unix.NFTA_META_KEY, key)
		e.number(unix.NFTA_META_DREG, register)
	})
}

func (e *expressions) payload(base, offset, size, register uint32) {
	e.add("payload", func() {
		e.number(unix.NFTA_PAYLOAD_DREG, register)
		e.number(unix.NFTA_PAYLOAD_BASE, base)
		e.number(unix.NFTA_PAYLOAD_OFFSET, offset)
		e.number(unix.NFTA_PAYLOAD_LEN, size)
	})
}

func (e *expressions) compare(operation uint32, data ...byte) {
	e.add("cmp", func() {
		e.number(unix.NFTA_CMP_SREG, firstRegister)
		e.number(unix.NFTA_CMP_OP, operation)
		e.value(unix.NFTA_CMP_DATA, data...)
	})
}

func (e *expressions) mask(mask ...byte) {
	e.add("bitwise", func() {
		e.number(unix.NFTA_BITWISE_SREG, firstRegister)
		e.number(unix.NFTA_BITWISE_DREG, firstRegister)
		e.number(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		e.value(unix.NFTA_BITWISE_MASK, mask...)
		e.value(unix.NFTA_BITWISE_XOR, make([]byte, len(mask))...)
	})
}

func (e *expressions) toNetworkOrder(register uint32) {
	e.add("byteorder", func() {
		e.number(unix.NFTA_BYTEORDER_SREG, register)
		e.number(unix.NFTA_BYTEORDER_DREG, register)
		e.number(unix.NFTA_BYTEORDER_OP, unix.NFT_BYTEORDER_HTON)
		e.number(unix.NFTA_BYTEORDER_LEN, 1)
		e.number(unix.NFTA_BYTEORDER_SIZE, 2)
	})
}

// chunkPresent loads whether a packet of SCTP has a chunk of a type.
func (e *expressions) chunkPresent(kind byte) {
	e.add("exthdr", func() {
		e.number(unix.NFTA_EXTHDR_DREG, firstRegister)
		e.bytes(unix.NFTA_EXTHDR_TYPE, kind)
		e.number(unix.NFTA_EXTHDR_OFFSET, 0)
		e.number(unix.NFTA_EXTHDR_LEN, 1)
		e.number(unix.NFTA_EXTHDR_OP, exthdrSCTP)
		e.number(unix.NFTA_EXTHDR_FLAGS, exthdrFlagPresent)
	})
}

func (e *expressions) connectionState() {
	e.add("ct", func() {
		e.number(unix.NFTA_CT_KEY, unix.NFT_CT_STATE)
		e.number(unix.NFTA_CT_DREG, firstRegister)
	})
}

// lookup looks registers up in a set; one without a name yet is known by the number that it
// has in the batch. A map's verdict is what becomes of the packet.
func (e *expressions) lookup(set string, id uint32, verdicts bool) {
	e.add("lookup", func() {
		e.text(unix.NFTA_LOOKUP_SET, set)
		e.number(unix.NFTA_LOOKUP_SREG, firstRegister)
		if verdicts {
			e.number(unix.NFTA_LOOKUP_DREG, verdictRegister)
		}
		if id != 0 {
			e.number(unix.NFTA_LOOKUP_SET_ID, id)
		}
	})
}

func (e *expressions) immediate(v verdict) (ok bool) {
	e.add("immediate", func() {
		e.number(unix.NFTA_IMMEDIATE_DREG, verdictRegister)
		ok = e.verdict(unix.NFTA_IMMEDIATE_DATA, v)
	})
	return ok
}

func nativeNumber(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
