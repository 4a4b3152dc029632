package nfnetlink

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// MaxBatch is the size of a batch, in bytes, that the socket has room for. A million elements are less.
	MaxBatch = 64 << 20
	// perMessage is the number of elements in one message: a list of attributes has 64 KiB, an element at most 400 bytes.
	perMessage = 128
	// anonymousSet has the kernel name a set.
	anonymousSet = "__set%d"
)

// What golang.org/x/sys/unix has not, of linux/netfilter/nf_tables.h and libnftnl/udata.h.
const (
	setConcatenated   = 0x80 // NFT_SET_CONCAT
	setDescFields     = 2    // NFTA_SET_DESC_CONCAT
	setFieldLength    = 1    // NFTA_SET_FIELD_LEN
	elementKeyEnd     = 10   // NFTA_SET_ELEM_KEY_END
	setDataKeyOrder   = 0    // NFTNL_UDATA_SET_KEYBYTEORDER
	elementDataFlags  = 1    // NFTNL_UDATA_SET_ELEM_FLAGS
	elementOpenToLast = 1    // NFTNL_SET_ELEM_F_INTERVAL_OPEN
	verdictType       = 0xffffff00
)

// Batch is a transaction as messages to the kernel (linux/netfilter/nfnetlink.h).
type Batch struct {
	attributes
	table string
	// objects are what the messages so far are about, whose sequence numbers begin with 1, and last
	// is where the last message begins.
	objects []string
	last    int
	// sets is how many sets the batch makes.
	sets uint32
}

// NewBatch returns an empty batch about a table of the family inet.
func NewBatch(table string) *Batch { return &Batch{table: table} }

// Len is the size of the messages in bytes.
func (b *Batch) Len() int { return len(b.buf) }

// Objects are what the messages are about, one for each.
func (b *Batch) Objects() []string { return b.objects }

// addMessage adds a message about an object.
func (b *Batch) addMessage(kind, flags uint16, object string, fill func()) {
	b.objects, b.last = append(b.objects, object), len(b.buf)
	b.buf = appendHeader(b.buf, unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, uint32(len(b.objects)))
	b.buf = append(b.buf, unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0)
	fill()
	binary.NativeEndian.PutUint32(b.buf[b.last:], uint32(len(b.buf)-b.last))
}

// appendHeader adds the header of a message, whose length is to be set.
func appendHeader(buf []byte, kind, flags uint16, sequence uint32) []byte {
	buf = binary.NativeEndian.AppendUint32(buf, 0)
	buf = binary.NativeEndian.AppendUint16(buf, kind)
	buf = binary.NativeEndian.AppendUint16(buf, unix.NLM_F_REQUEST|flags)
	buf = binary.NativeEndian.AppendUint32(buf, sequence)
	return binary.NativeEndian.AppendUint32(buf, 0) // the port: the kernel knows it
}

// EncodeAt encodes the whole batch, which the kernel carries out if its tables are of this generation, and
// whose last message it answers.
func (b *Batch) EncodeAt(generation uint32) []byte {
	bound := func(kind uint16, fill func(*attributes)) []byte {
		out := attributes{appendHeader(nil, kind, 0, 0)}
		out.buf = append(out.buf, unix.AF_UNSPEC, unix.NFNETLINK_V0)
		out.buf = binary.BigEndian.AppendUint16(out.buf, unix.NFNL_SUBSYS_NFTABLES)
		fill(&out)
		binary.NativeEndian.PutUint32(out.buf, uint32(len(out.buf)))
		return out.buf
	}
	body := slices.Clone(b.buf)
	flags := body[b.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	begin := bound(unix.NFNL_MSG_BATCH_BEGIN, func(a *attributes) { a.addNumber(unix.NFNL_BATCH_GENID, generation) })
	return slices.Concat(begin, body, bound(unix.NFNL_MSG_BATCH_END, func(*attributes) {}))
}

// AddTable makes the table.
func (b *Batch) AddTable() {
	b.addMessage(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "our table", func() {
		b.addText(unix.NFTA_TABLE_NAME, b.table)
		b.addNumber(unix.NFTA_TABLE_FLAGS, 0)
	})
}

// AddChain makes a chain without a hook.
func (b *Batch) AddChain(name string) {
	b.addChainMessage(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, name)
}

// DeleteChain deletes a chain.
func (b *Batch) DeleteChain(name string) { b.addChainMessage(unix.NFT_MSG_DELCHAIN, 0, name) }

func (b *Batch) addChainMessage(kind, flags uint16, name string) {
	b.addMessage(kind, flags, "chain "+name, func() {
		b.addText(unix.NFTA_CHAIN_TABLE, b.table)
		b.addText(unix.NFTA_CHAIN_NAME, name)
	})
}

// FlushChain deletes the rules of a chain.
func (b *Batch) FlushChain(name string) {
	b.addMessage(unix.NFT_MSG_DELRULE, 0, "chain "+name, func() {
		b.addText(unix.NFTA_RULE_TABLE, b.table)
		b.addText(unix.NFTA_RULE_CHAIN, name)
	})
}

// NewExpressions returns an empty rule, whose anonymous sets are made by the batch.
func (b *Batch) NewExpressions() *Expressions { return &Expressions{batch: b} }

// AddRule adds a rule at the end of a chain.
func (b *Batch) AddRule(chain string, e *Expressions, comment string) {
	b.addMessage(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, "chain "+chain, func() {
		b.addText(unix.NFTA_RULE_TABLE, b.table)
		b.addText(unix.NFTA_RULE_CHAIN, chain)
		b.addNested(unix.NFTA_RULE_EXPRESSIONS, func() { b.buf = append(b.buf, e.buf...) })
		if comment != "" {
			b.addBytes(unix.NFTA_RULE_USERDATA, commentData(comment)...)
		}
	})
}

// SetKind says what a set holds.
type SetKind struct {
	Key KeyType
	// Interval says that keys are ranges, Map that they have verdicts.
	Interval, Map bool
}

// AddSet makes a set or a map.
func (b *Batch) AddSet(name string, kind SetKind) {
	var flags uint32
	if kind.Map {
		flags |= unix.NFT_SET_MAP
	}
	if kind.Interval {
		flags |= unix.NFT_SET_INTERVAL
	}
	b.addSet(name, flags, kind.Key, 0)
}

// DeleteSet deletes a set or a map.
func (b *Batch) DeleteSet(name string) {
	b.addMessage(unix.NFT_MSG_DELSET, 0, "set "+name, func() {
		b.addText(unix.NFTA_SET_TABLE, b.table)
		b.addText(unix.NFTA_SET_NAME, name)
	})
}

// addAnonymousSet makes a set that the next rule alone refers to, and returns its number.
func (b *Batch) addAnonymousSet(keyType string, keys []string) (id uint32, ok bool) {
	kind, ok := ParseKeyType(keyType)
	id = b.addSet(anonymousSet, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT, kind, len(keys))
	elements := make([]Element, len(keys))
	for i, k := range keys {
		elements[i].Key = k
	}
	return id, ok && b.addElements(anonymousSet, SetKind{Key: kind}, elements, id)
}

// addSet makes a set, of so many elements if that is known, and returns its number in the batch.
func (b *Batch) addSet(name string, flags uint32, kind KeyType, size int) uint32 {
	whole, fields := kind.concatenated(), len(kind) > 1 && flags&unix.NFT_SET_INTERVAL != 0
	if fields {
		flags |= setConcatenated
	}
	b.sets++
	b.addMessage(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, "set "+name, func() {
		b.addText(unix.NFTA_SET_TABLE, b.table)
		b.addText(unix.NFTA_SET_NAME, name)
		b.addNumber(unix.NFTA_SET_FLAGS, flags)
		b.addNumber(unix.NFTA_SET_KEY_TYPE, whole.number)
		b.addNumber(unix.NFTA_SET_KEY_LEN, uint32(whole.size))
		if flags&unix.NFT_SET_MAP != 0 {
			b.addNumber(unix.NFTA_SET_DATA_TYPE, verdictType)
			b.addNumber(unix.NFTA_SET_DATA_LEN, 0)
		}
		b.addNumber(unix.NFTA_SET_ID, b.sets)
		if size > 0 {
			b.addNested(unix.NFTA_SET_DESC, func() { b.addNumber(unix.NFTA_SET_DESC_SIZE, uint32(size)) })
		}
		if fields {
			b.addNested(unix.NFTA_SET_DESC, func() { b.addNested(setDescFields, func() { b.addFields(kind) }) })
		}
		b.addBytes(unix.NFTA_SET_USERDATA, append([]byte{setDataKeyOrder, 4}, NativeNumber(whole.order)...)...)
	})
	return b.sets
}

func (b *Batch) addFields(kind KeyType) {
	for _, d := range kind {
		b.addNested(unix.NFTA_LIST_ELEM, func() { b.addNumber(setFieldLength, uint32(d.size)) })
	}
}

// Element is an element of a set, or of a map of verdicts.
type Element struct {
	// Key is as nft prints it, with numbers for names; Verdict likewise.
	Key, Verdict, Comment string
}

// AddElements adds elements. A set of ranges takes only all of its elements at once. It reports whether the kernel can be
// given them.
func (b *Batch) AddElements(set string, kind SetKind, elements []Element, complete bool) bool {
	if kind.Interval && (!complete || kind.Map && len(kind.Key) == 1) {
		return false
	}
	return b.addElements(set, kind, elements, 0)
}

func (b *Batch) addElements(set string, kind SetKind, elements []Element, id uint32) bool {
	list, ok := kind.encodeKeys(elements)
	if !ok {
		return false
	}
	for i := range list {
		list[i].hasVerdict = kind.Map
	}
	if kind.Interval && len(kind.Key) == 1 {
		list = rangeBoundaries(list)
	}
	return b.addElementMessages(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, set, list, id)
}

// DeleteElements deletes elements of a set without ranges. It reports whether the kernel can be given them.
func (b *Batch) DeleteElements(set string, kind SetKind, elements []Element) bool {
	list, ok := kind.encodeKeys(elements)
	return ok && !kind.Interval && b.addElementMessages(unix.NFT_MSG_DELSETELEM, 0, set, list, 0)
}

// encodeKeys encodes the keys of elements. It reports whether all are understood.
func (kind SetKind) encodeKeys(elements []Element) ([]encodedElement, bool) {
	list := make([]encodedElement, 0, len(elements))
	for _, in := range elements {
		first, last, ok := kind.Key.encodeKey(in.Key)
		if !ok || !kind.Interval && !slices.Equal(first, last) {
			return nil, false
		}
		e := encodedElement{Element: in, first: first}
		if kind.Interval {
			e.last = last
		}
		list = append(list, e)
	}
	return list, true
}

// addElementMessages adds messages about elements.
func (b *Batch) addElementMessages(message, flags uint16, set string, list []encodedElement, id uint32) (ok bool) {
	ok = true
	for some := range slices.Chunk(list, perMessage) {
		b.addMessage(message, flags, "set "+set, func() {
			b.addText(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
			b.addText(unix.NFTA_SET_ELEM_LIST_SET, set)
			if id != 0 {
				b.addNumber(unix.NFTA_SET_ELEM_LIST_SET_ID, id)
			}
			b.addNested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
				for _, e := range some {
					ok = e.encodeTo(b) && ok
				}
			})
		})
	}
	return ok
}

// encodedElement is an element as the kernel has it.
type encodedElement struct {
	Element
	// last is that of a range in a concatenation.
	first, last []byte
	// end says that the element is the one after a range, open that a range has none after it.
	end, open bool
	// hasVerdict says that the element is one of a map, and is added.
	hasVerdict bool
}

// rangeBoundaries are the elements of a set of ranges, as nft gives them: those that begin and those that end
// a range, and one that ends what is before the first.
func rangeBoundaries(ranges []encodedElement) []encodedElement {
	slices.SortFunc(ranges, func(a, b encodedElement) int { return slices.Compare(a.first, b.first) })
	var out []encodedElement
	if zero := make([]byte, len(ranges[0].first)); !slices.Equal(ranges[0].first, zero) {
		out = append(out, encodedElement{first: zero, end: true})
	}
	for _, r := range ranges {
		next, ok := nextKey(r.last)
		out = append(out, encodedElement{first: r.first, open: !ok})
		if ok {
			out = append(out, encodedElement{first: next, end: true})
		}
	}
	return out
}

func (e encodedElement) encodeTo(b *Batch) (ok bool) {
	ok = true
	b.addNested(unix.NFTA_LIST_ELEM, func() {
		if e.end {
			b.addNumber(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
		}
		b.addValue(unix.NFTA_SET_ELEM_KEY, e.first...)
		if e.last != nil {
			b.addValue(elementKeyEnd, e.last...)
		}
		if e.hasVerdict {
			ok = b.addVerdict(unix.NFTA_SET_ELEM_DATA, e.Verdict)
		}
		if e.Comment != "" {
			b.addBytes(unix.NFTA_SET_ELEM_USERDATA, commentData(e.Comment)...)
		}
		if e.open {
			b.addBytes(unix.NFTA_SET_ELEM_USERDATA, append([]byte{elementDataFlags, 4}, NativeNumber(elementOpenToLast)...)...)
		}
	})
	return ok
}
