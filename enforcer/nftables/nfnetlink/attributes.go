package nfnetlink

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// attributes encodes netlink attributes (linux/netlink.h). Numbers are in network byte order, as in nf_tables.
type attributes struct{ buf []byte }

func (a *attributes) addBytes(kind uint16, value ...byte) {
	a.buf = binary.NativeEndian.AppendUint16(a.buf, uint16(unix.SizeofNlAttr+len(value)))
	a.buf = binary.NativeEndian.AppendUint16(a.buf, kind)
	a.buf = append(a.buf, value...)
	for len(a.buf)%unix.NLA_ALIGNTO != 0 {
		a.buf = append(a.buf, 0)
	}
}

func (a *attributes) addText(kind uint16, value string) {
	a.addBytes(kind, append([]byte(value), 0)...)
}

func (a *attributes) addNumber(kind uint16, value uint32) {
	a.addBytes(kind, binary.BigEndian.AppendUint32(nil, value)...)
}

// addNested adds an attribute that holds others.
func (a *attributes) addNested(kind uint16, fill func()) {
	start := len(a.buf)
	a.addBytes(kind | unix.NLA_F_NESTED)
	fill()
	binary.NativeEndian.PutUint16(a.buf[start:], uint16(len(a.buf)-start))
}

// addValue adds data as nf_tables nests it.
func (a *attributes) addValue(kind uint16, data ...byte) {
	a.addNested(kind, func() { a.addBytes(unix.NFTA_DATA_VALUE, data...) })
}

// addVerdict adds a verdict as nf_tables nests it.
func (a *attributes) addVerdict(kind uint16, v string) bool {
	code, chain, ok := verdictCode(v)
	a.addNested(kind, func() {
		a.addNested(unix.NFTA_DATA_VERDICT, func() {
			a.addNumber(unix.NFTA_VERDICT_CODE, uint32(code))
			if chain != "" {
				a.addText(unix.NFTA_VERDICT_CHAIN, chain)
			}
		})
	})
	return ok
}

// verdictCodes are those of linux/netfilter.h and linux/netfilter/nf_tables.h.
var verdictCodes = map[string]int32{"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}

// verdictCode returns the kernel's code of a verdict as nft prints it, and the chain that it leads to.
func verdictCode(v string) (code int32, chain string, ok bool) {
	name, chain, leads := strings.Cut(v, " ")
	code, ok = verdictCodes[name]
	return code, chain, ok && leads == (name == "goto" || name == "jump")
}

// commentData is a comment among the user's data of a rule or an element: a type, a length, a text
// (NFTNL_UDATA_RULE_COMMENT and NFTNL_UDATA_SET_ELEM_COMMENT of libnftnl/udata.h).
func commentData(text string) []byte {
	return append(append([]byte{0, byte(len(text) + 1)}, text...), 0)
}
