package nftables

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// maxBatch is the size of a transaction, in bytes, from which it is left to nft; a million elements are less. perMessage
	// is the number of elements in one message: a list of attributes has 64 KiB, an element at most 400 bytes.
	maxBatch   = 64 << 20
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

// batch is a transaction as messages to the kernel (linux/netfilter/nfnetlink.h).
type batch struct {
	attributes
	// about are the objects of the messages so far, whose sequence numbers begin with 1, and last
	// is where the last message begins.
	about []string
	last  int
	// sets is how many sets the batch makes.
	sets uint32
}

// batch is the transaction, which does something, for the kernel; false says that it takes nft.
func (t *transaction) batch() (*batch, bool) {
	b := &batch{}
	for _, c := range t.commands {
		if !c.encode(b) || len(b.buf) > maxBatch {
			return nil, false
		}
	}
	return b, true
}

// message adds a message about an object.
func (b *batch) message(kind, flags uint16, object string, fill func()) {
	b.about, b.last = append(b.about, object), len(b.buf)
	b.buf = appendHeader(b.buf, unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, uint32(len(b.about)))
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

// bytes are the whole batch, which the kernel carries out if its tables are of this generation, and
// whose last message it answers.
func (b *batch) bytes(generation uint32) []byte {
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
	begin := bound(unix.NFNL_MSG_BATCH_BEGIN, func(a *attributes) { a.number(unix.NFNL_BATCH_GENID, generation) })
	return slices.Concat(begin, body, bound(unix.NFNL_MSG_BATCH_END, func(*attributes) {}))
}

func (c ofTable) encode(b *batch) bool {
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "our table", func() {
		b.text(unix.NFTA_TABLE_NAME, tableName)
		b.number(unix.NFTA_TABLE_FLAGS, 0)
	})
	return c.verb == add
}

func (c ofChain) encode(b *batch) bool {
	kind, flags, table, name := uint16(unix.NFT_MSG_NEWCHAIN), uint16(unix.NLM_F_CREATE), uint16(unix.NFTA_CHAIN_TABLE), uint16(unix.NFTA_CHAIN_NAME)
	switch c.verb {
	case empty:
		kind, flags, table, name = unix.NFT_MSG_DELRULE, 0, unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN
	case remove:
		kind, flags = unix.NFT_MSG_DELCHAIN, 0
	}
	b.message(kind, flags, "chain "+c.name, func() {
		b.text(table, tableName)
		b.text(name, c.name)
	})
	return c.hook == ""
}

func (c ofRule) encode(b *batch) bool {
	e, ok := expressions{batch: b}, len(c.rule.terms) > 0
	for _, t := range c.rule.terms {
		ok = ok && t.express(&e)
	}
	b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, "chain "+c.chain, func() {
		b.text(unix.NFTA_RULE_TABLE, tableName)
		b.text(unix.NFTA_RULE_CHAIN, c.chain)
		b.nest(unix.NFTA_RULE_EXPRESSIONS, func() { b.buf = append(b.buf, e.buf...) })
		if c.rule.Comment != "" {
			b.attributes.bytes(unix.NFTA_RULE_USERDATA, commentData(c.rule.Comment)...)
		}
	})
	return ok
}

func (c ofSet) encode(b *batch) bool {
	kind, ok := parseType(c.kind.Type)
	if c.verb == remove {
		b.message(unix.NFT_MSG_DELSET, 0, "set "+c.name, func() {
			b.text(unix.NFTA_SET_TABLE, tableName)
			b.text(unix.NFTA_SET_NAME, c.name)
		})
		return true
	}
	var flags uint32
	if c.kind.Map {
		flags |= unix.NFT_SET_MAP
	}
	if c.kind.Interval {
		flags |= unix.NFT_SET_INTERVAL
	}
	b.set(c.name, flags, kind, 0)
	return ok
}

// anonymous makes a set that the next rule alone refers to, and gives its number.
func (b *batch) anonymous(setType string, keys []string) (id uint32, ok bool) {
	kind, ok := parseType(setType)
	id = b.set(anonymousSet, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT, kind, len(keys))
	return id, ok && b.elements(ofElements{set: anonymousSet, keys: keys}, kind, id)
}

// set makes a set, of so many elements if that is known, and gives its number in the batch.
func (b *batch) set(name string, flags uint32, kind concatenation, size int) uint32 {
	whole, fields := kind.whole(), len(kind) > 1 && flags&unix.NFT_SET_INTERVAL != 0
	if fields {
		flags |= setConcatenated
	}
	b.sets++
	b.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, "set "+name, func() {
		b.text(unix.NFTA_SET_TABLE, tableName)
		b.text(unix.NFTA_SET_NAME, name)
		b.number(unix.NFTA_SET_FLAGS, flags)
		b.number(unix.NFTA_SET_KEY_TYPE, whole.number)
		b.number(unix.NFTA_SET_KEY_LEN, uint32(whole.size))
		if flags&unix.NFT_SET_MAP != 0 {
			b.number(unix.NFTA_SET_DATA_TYPE, verdictType)
			b.number(unix.NFTA_SET_DATA_LEN, 0)
		}
		b.number(unix.NFTA_SET_ID, b.sets)
		if size > 0 {
			b.nest(unix.NFTA_SET_DESC, func() { b.number(unix.NFTA_SET_DESC_SIZE, uint32(size)) })
		}
		if fields {
			b.nest(unix.NFTA_SET_DESC, func() { b.nest(setDescFields, func() { b.fields(kind) }) })
		}
		b.attributes.bytes(unix.NFTA_SET_USERDATA, append([]byte{setDataKeyOrder, 4}, nativeNumber(whole.order)...)...)
	})
	return b.sets
}

func (b *batch) fields(kind concatenation) {
	for _, d := range kind {
		b.nest(unix.NFTA_LIST_ELEM, func() { b.number(setFieldLength, uint32(d.size)) })
	}
}

func (c ofElements) encode(b *batch) bool {
	kind, ok := parseType(c.kind.Type)
	return ok && b.elements(c, kind, 0)
}

// elements adds or removes elements. A set of ranges of one field has their ends as elements of
// their own, for which all must be known.
func (b *batch) elements(c ofElements, kind concatenation, id uint32) bool {
	list, ok := make([]element, 0, len(c.keys)), true
	for _, k := range c.keys {
		e := element{Element: c.in[k], verdicts: c.kind.Map && c.verb == add}
		e.first, e.last, ok = kind.key(k)
		if !ok || !c.kind.Interval && !slices.Equal(e.first, e.last) {
			return false
		}
		list = append(list, e)
	}
	switch {
	case c.kind.Interval && (!c.all || c.verb != add || c.kind.Map && len(kind) == 1):
		return false
	case c.kind.Interval && len(kind) == 1:
		list = ends(list)
	case !c.kind.Interval:
		for i := range list {
			list[i].last = nil
		}
	}
	message, flags := uint16(unix.NFT_MSG_NEWSETELEM), uint16(unix.NLM_F_CREATE)
	if c.verb == remove {
		message, flags = unix.NFT_MSG_DELSETELEM, 0
	}
	for some := range slices.Chunk(list, perMessage) {
		b.message(message, flags, "set "+c.set, func() {
			b.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
			b.text(unix.NFTA_SET_ELEM_LIST_SET, c.set)
			if id != 0 {
				b.number(unix.NFTA_SET_ELEM_LIST_SET_ID, id)
			}
			b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
				for _, e := range some {
					ok = e.encode(b) && ok
				}
			})
		})
	}
	return ok
}

// element is an element for the kernel.
type element struct {
	Element
	// last is that of a range in a concatenation.
	first, last []byte
	// end says that the element is the one after a range, open that a range has none after it.
	end, open bool
	verdicts  bool
}

// ends are the elements of a set of ranges, as nft gives them: those that begin and those that end
// a range, and one that ends what is before the first.
func ends(ranges []element) []element {
	slices.SortFunc(ranges, func(a, b element) int { return slices.Compare(a.first, b.first) })
	var out []element
	if zero := make([]byte, len(ranges[0].first)); !slices.Equal(ranges[0].first, zero) {
		out = append(out, element{first: zero, end: true})
	}
	for _, r := range ranges {
		next, ok := after(r.last)
		out = append(out, element{first: r.first, open: !ok})
		if ok {
			out = append(out, element{first: next, end: true})
		}
	}
	return out
}

func (e element) encode(b *batch) (ok bool) {
	ok = true
	b.nest(unix.NFTA_LIST_ELEM, func() {
		if e.end {
			b.number(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
		}
		b.value(unix.NFTA_SET_ELEM_KEY, e.first...)
		if e.last != nil {
			b.value(elementKeyEnd, e.last...)
		}
		if e.verdicts {
			ok = b.verdict(unix.NFTA_SET_ELEM_DATA, verdict(e.Verdict))
		}
		if e.Comment != "" {
			b.attributes.bytes(unix.NFTA_SET_ELEM_USERDATA, commentData(e.Comment)...)
		}
		if e.open {
			b.attributes.bytes(unix.NFTA_SET_ELEM_USERDATA, append([]byte{elementDataFlags, 4}, nativeNumber(elementOpenToLast)...)...)
		}
	})
	return ok
}
