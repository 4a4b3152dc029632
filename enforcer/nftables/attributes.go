package nftables

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// attributes are netlink attributes in the making (linux/netlink.h). Numbers are in
// network byte order, as nf_tables has them.
type attributes struct{ buf []byte }

func (a *attributes) bytes(kind uint16, value ...byte) {
	a.buf = binary.NativeEndian.AppendUint16(a.buf, uint16(unix.SizeofNlAttr+len(value)))
	a.buf = binary.NativeEndian.AppendUint16(a.buf, kind)
	a.buf = append(a.buf, value...)
	for len(a.buf)%unix.NLA_ALIGNTO != 0 {
		a.buf = append(a.buf, 0)
	}
}

func (a *attributes) text(kind uint16, value string) { a.bytes(kind, append([]byte(value), 0)...) }

func (a *attributes) number(kind uint16, value uint32) {
	a.bytes(kind, binary.BigEndian.AppendUint32(nil, value)...)
}

// nest adds an attribute that holds others.
func (a *attributes) nest(kind uint16, fill func()) {
	start := len(a.buf)
	a.bytes(kind | unix.NLA_F_NESTED)
	fill()
	binary.NativeEndian.PutUint16(a.buf[start:], uint16(len(a.buf)-start))
}

// value adds data as nf_tables nests it.
func (a *attributes) value(kind uint16, data ...byte) {
	a.nest(kind, func() { a.bytes(unix.NFTA_DATA_VALUE, data...) })
}

// verdict adds a verdict as nf_tables nests it.
func (a *attributes) verdict(kind uint16, v verdict) bool {
	code, chain, ok := v.code()
	a.nest(kind, func() {
		a.nest(unix.NFTA_DATA_VERDICT, func() {
			a.number(unix.NFTA_VERDICT_CODE, uint32(code))
			if chain != "" {
				a.text(unix.NFTA_VERDICT_CHAIN, chain)
			}
		})
	})
	return ok
}

// commentData is a comment among the user's data of a rule or an element: a type, a length, a text
// (NFTNL_UDATA_RULE_COMMENT and NFTNL_UDATA_SET_ELEM_COMMENT of libnftnl/udata.h).
func commentData(text string) []byte {
	return append(append([]byte{0, byte(len(text) + 1)}, text...), 0)
}
