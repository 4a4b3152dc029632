package nfnetlink

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

// Expressions is a rule as the kernel has it, in the order that nft writes.
type Expressions struct {
	attributes
	batch *Batch
	// family is the one that a packet must be of by the expressions so far, as NFPROTO number.
	family byte
}

// Field is a field of a packet.
type Field struct {
	// Base is the header that has it, and 0 for the protocol above IP. Offset and Size are in bytes.
	Base, Offset, Size uint32
	// Family is the NFPROTO number of the family whose header has the field, and 0 for both.
	Family byte
}

func (e *Expressions) addExpression(name string, fill func()) {
	e.addNested(unix.NFTA_LIST_ELEM, func() {
		e.addText(unix.NFTA_EXPR_NAME, name)
		e.addNested(unix.NFTA_EXPR_DATA, fill)
	})
}

// LoadFields loads fields into registers, from the first on. A set of ranges compares in network byte order.
func (e *Expressions) LoadFields(in []Field, ranges bool) {
	words := uint32(0)
	for _, f := range in {
		register := uint32(firstRegister)
		if words > 0 {
			register = firstWord + words
		}
		if f.Family != 0 && f.Family != e.family {
			e.requireFamily(f.Family)
		}
		if f.Base != 0 {
			e.loadPayload(f.Base, f.Offset, f.Size, register)
		} else {
			e.loadMeta(unix.NFT_META_L4PROTO, register)
		}
		if f.Base == 0 && ranges {
			e.toNetworkOrder(register)
		}
		words += (f.Size + 3) / 4
	}
}

func (e *Expressions) requireFamily(number byte) {
	e.family = number
	e.loadMeta(unix.NFT_META_NFPROTO, firstRegister)
	e.CompareData(unix.NFT_CMP_EQ, number)
}

func (e *Expressions) loadMeta(key, register uint32) {
	e.addExpression("meta", func() {
		e.addNumber(unix.NFTA_META_KEY, key)
		e.addNumber(unix.NFTA_META_DREG, register)
	})
}

// LoadTransport loads bytes of the transport header into the first register.
func (e *Expressions) LoadTransport(offset, size uint32) {
	e.loadPayload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset, size, firstRegister)
}

func (e *Expressions) loadPayload(base, offset, size, register uint32) {
	e.addExpression("payload", func() {
		e.addNumber(unix.NFTA_PAYLOAD_DREG, register)
		e.addNumber(unix.NFTA_PAYLOAD_BASE, base)
		e.addNumber(unix.NFTA_PAYLOAD_OFFSET, offset)
		e.addNumber(unix.NFTA_PAYLOAD_LEN, size)
	})
}

// CompareData compares the first register with data, by an operation NFT_CMP of the kernel.
func (e *Expressions) CompareData(operation uint32, data ...byte) {
	e.addExpression("cmp", func() {
		e.addNumber(unix.NFTA_CMP_SREG, firstRegister)
		e.addNumber(unix.NFTA_CMP_OP, operation)
		e.addValue(unix.NFTA_CMP_DATA, data...)
	})
}

// MaskBits clears all bits of the first register but those of the mask.
func (e *Expressions) MaskBits(mask ...byte) {
	e.addExpression("bitwise", func() {
		e.addNumber(unix.NFTA_BITWISE_SREG, firstRegister)
		e.addNumber(unix.NFTA_BITWISE_DREG, firstRegister)
		e.addNumber(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		e.addValue(unix.NFTA_BITWISE_MASK, mask...)
		e.addValue(unix.NFTA_BITWISE_XOR, make([]byte, len(mask))...)
	})
}

func (e *Expressions) toNetworkOrder(register uint32) {
	e.addExpression("byteorder", func() {
		e.addNumber(unix.NFTA_BYTEORDER_SREG, register)
		e.addNumber(unix.NFTA_BYTEORDER_DREG, register)
		e.addNumber(unix.NFTA_BYTEORDER_OP, unix.NFT_BYTEORDER_HTON)
		e.addNumber(unix.NFTA_BYTEORDER_LEN, 1)
		e.addNumber(unix.NFTA_BYTEORDER_SIZE, 2)
	})
}

// ChunkPresent loads whether a packet of SCTP has a chunk of a type.
func (e *Expressions) ChunkPresent(kind byte) {
	e.addExpression("exthdr", func() {
		e.addNumber(unix.NFTA_EXTHDR_DREG, firstRegister)
		e.addBytes(unix.NFTA_EXTHDR_TYPE, kind)
		e.addNumber(unix.NFTA_EXTHDR_OFFSET, 0)
		e.addNumber(unix.NFTA_EXTHDR_LEN, 1)
		e.addNumber(unix.NFTA_EXTHDR_OP, exthdrSCTP)
		e.addNumber(unix.NFTA_EXTHDR_FLAGS, exthdrFlagPresent)
	})
}

// ConnectionState loads the state of a packet's connection.
func (e *Expressions) ConnectionState() {
	e.addExpression("ct", func() {
		e.addNumber(unix.NFTA_CT_KEY, unix.NFT_CT_STATE)
		e.addNumber(unix.NFTA_CT_DREG, firstRegister)
	})
}

// LookupSet looks the registers up in a set. With verdicts the set is a map, whose verdict ends the rule.
func (e *Expressions) LookupSet(set string, verdicts bool) { e.addLookup(set, 0, verdicts) }

// LookupValues looks fields up in an anonymous set of values. It reports whether the kernel can be given them.
func (e *Expressions) LookupValues(fields []Field, keyType string, values []string) bool {
	id, ok := e.batch.addAnonymousSet(keyType, values)
	e.LoadFields(fields, false)
	e.addLookup(anonymousSet, id, false)
	return ok
}

// addLookup looks registers up in a set; an anonymous one is identified by its number in the batch.
func (e *Expressions) addLookup(set string, id uint32, verdicts bool) {
	e.addExpression("lookup", func() {
		e.addText(unix.NFTA_LOOKUP_SET, set)
		e.addNumber(unix.NFTA_LOOKUP_SREG, firstRegister)
		if verdicts {
			e.addNumber(unix.NFTA_LOOKUP_DREG, verdictRegister)
		}
		if id != 0 {
			e.addNumber(unix.NFTA_LOOKUP_SET_ID, id)
		}
	})
}

// AddVerdict ends the rule with a verdict as nft prints it. It reports whether there is such a verdict.
func (e *Expressions) AddVerdict(v string) (ok bool) {
	e.addExpression("immediate", func() {
		e.addNumber(unix.NFTA_IMMEDIATE_DREG, verdictRegister)
		ok = e.addVerdict(unix.NFTA_IMMEDIATE_DATA, v)
	})
	return ok
}

// NativeNumber encodes a number in the byte order of the machine.
func NativeNumber(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
