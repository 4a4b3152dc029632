package nftables

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/policy"
)

// term is a part of a rule. What a person and nft read and what the kernel does come from
// the same fields.
type term interface {
	// nftText is the term as nft reads it.
	nftText() string
	// encodeTerm adds what the kernel does for it; false says that only nft can say it.
	encodeTerm(e *nfnetlink.Expressions) bool
}

// words are a term that only nft can say: of the chains that are written once.
type words string

func (w words) nftText() string                        { return string(w) }
func (w words) encodeTerm(*nfnetlink.Expressions) bool { return false }

// field is a field of a packet, with the names that nft has for it and its type.
type field struct {
	name, datatype string
	nfnetlink.Field
}

var (
	protocolField = field{"meta l4proto", "inet_proto", nfnetlink.Field{Size: 1}}
	portField     = field{"th dport", "inet_service", nfnetlink.Field{Base: unix.NFT_PAYLOAD_TRANSPORT_HEADER, Offset: 2, Size: 2}}
)

// portFields are a port of a protocol.
var portFields = fields{protocolField, portField}

// addressField is the source or the destination of a packet (RFC 791, section 3.1; RFC 8200, section 3).
func addressField(f family, source bool) field {
	out := field{f.headerName() + " daddr", f.addressType(), nfnetlink.Field{Base: unix.NFT_PAYLOAD_NETWORK_HEADER, Offset: 16, Size: 4, Family: unix.NFPROTO_IPV4}}
	if f == ipv6 {
		out.Offset, out.Size, out.Family = 24, 16, unix.NFPROTO_IPV6
	}
	if source {
		out.name, out.Offset = f.headerName()+" saddr", out.Offset-out.Size
	}
	return out
}

// fields are what is looked up together.
type fields []field

func (f fields) nftText() string {
	names := make([]string, len(f))
	for i := range f {
		names[i] = f[i].name
	}
	return strings.Join(names, " . ")
}

// setType is the type of a set of such fields.
func (f fields) setType() string {
	types := make([]string, len(f))
	for i := range f {
		types[i] = f[i].datatype
	}
	return strings.Join(types, " . ")
}

// kernelFields returns the fields as the kernel has them.
func (f fields) kernelFields() []nfnetlink.Field {
	out := make([]nfnetlink.Field, len(f))
	for i := range f {
		out[i] = f[i].Field
	}
	return out
}

// fieldsInSet matches packets whose fields are in a set.
type fieldsInSet struct {
	fields
	set string
	// ranges says that the set holds ranges.
	ranges bool
}

func (t fieldsInSet) nftText() string { return t.fields.nftText() + " @" + t.set }

func (t fieldsInSet) encodeTerm(e *nfnetlink.Expressions) bool {
	e.LoadFields(t.kernelFields(), t.ranges)
	e.LookupSet(t.set, false)
	return true
}

// fieldsInValues matches packets whose fields are one of some values, each as the key of a set.
type fieldsInValues struct {
	fields
	values []string
}

func (t fieldsInValues) nftText() string {
	return t.fields.nftText() + " { " + strings.Join(t.values, ", ") + " }"
}

func (t fieldsInValues) encodeTerm(e *nfnetlink.Expressions) bool {
	return e.LookupValues(t.kernelFields(), t.setType(), t.values)
}

// verdictMap ends the rule with the verdict that a map has for fields.
type verdictMap struct {
	fields
	verdicts string
	// ranges reports whether the map holds ranges.
	ranges bool
}

func (t verdictMap) nftText() string { return t.fields.nftText() + " vmap @" + t.verdicts }

func (t verdictMap) encodeTerm(e *nfnetlink.Expressions) bool {
	e.LoadFields(t.kernelFields(), t.ranges)
	e.LookupSet(t.verdicts, true)
	return true
}

// protocolIs matches packets of a protocol.
type protocolIs policy.Protocol

func (t protocolIs) nftText() string { return protocolField.name + " " + strconv.Itoa(int(t)) }

func (t protocolIs) encodeTerm(e *nfnetlink.Expressions) bool {
	e.LoadFields(fields{protocolField}.kernelFields(), false)
	e.CompareData(unix.NFT_CMP_EQ, byte(t))
	return true
}

// portWithin says that the destination's port is in a range of more than one.
type portWithin rulegroup.Span

func (t portWithin) nftText() string { return portField.name + " " + portText(rulegroup.Span(t)) }

func (t portWithin) encodeTerm(e *nfnetlink.Expressions) bool {
	e.LoadFields(fields{portField}.kernelFields(), false)
	e.CompareData(unix.NFT_CMP_GTE, byte(t.First>>8), byte(t.First))
	e.CompareData(unix.NFT_CMP_LTE, byte(t.Last>>8), byte(t.Last))
	return true
}

// inBlock says that an address is in a block.
type inBlock struct {
	field
	block
}

func (t inBlock) nftText() string { return t.name + " " + t.block.nftText() }

// encodeTerm compares as nft does: of a network as many bytes as its prefix has, if it is of whole ones.
func (t inBlock) encodeTerm(e *nfnetlink.Expressions) bool {
	first, last := t.first.AsSlice(), t.last.AsSlice()
	network, err := netip.ParsePrefix(t.block.nftText())
	whole := err == nil && network.Bits()%8 == 0
	if whole {
		t.Size = uint32(network.Bits() / 8)
	}
	e.LoadFields(fields{t.field}.kernelFields(), false)
	switch {
	case whole:
		e.CompareData(unix.NFT_CMP_EQ, first[:t.Size]...)
		return t.Size > 0
	case err == nil:
		e.MaskBits(maskOf(network)...)
		e.CompareData(unix.NFT_CMP_EQ, first...)
	case t.first == t.last:
		e.CompareData(unix.NFT_CMP_EQ, first...)
	default:
		e.CompareData(unix.NFT_CMP_GTE, first...)
		e.CompareData(unix.NFT_CMP_LTE, last...)
	}
	return true
}

func maskOf(p netip.Prefix) []byte {
	out := make([]byte, p.Addr().BitLen()/8)
	for bit := range p.Bits() {
		out[bit/8] |= 0x80 >> (bit % 8)
	}
	return out
}

// stray says that a packet is of a connection that is not known, and opens none; see strays.
type stray policy.Protocol

func (t stray) nftText() string {
	if policy.Protocol(t) == policy.SCTP {
		return "meta l4proto sctp sctp chunk init missing ct state invalid,new"
	}
	return "tcp flags & (fin | syn | rst | ack) != syn ct state invalid,new"
}

func (t stray) encodeTerm(e *nfnetlink.Expressions) bool {
	const (
		flagsOffset              = 13 // of TCP, RFC 9293, section 3.1
		fin, syn, rst, ack  byte = 1, 2, 4, 16
		initChunk           byte = 1 // RFC 9260, section 3.2
		invalid, newlyBegun byte = 1, 8
	)
	protocolIs(t).encodeTerm(e)
	if policy.Protocol(t) == policy.SCTP {
		e.ChunkPresent(initChunk)
		e.CompareData(unix.NFT_CMP_EQ, 0)
	} else {
		e.LoadTransport(flagsOffset, 1)
		e.MaskBits(fin | syn | rst | ack)
		e.CompareData(unix.NFT_CMP_NEQ, syn)
	}
	e.ConnectionState()
	e.MaskBits(nfnetlink.NativeNumber(uint32(invalid | newlyBegun))...)
	e.CompareData(unix.NFT_CMP_NEQ, nfnetlink.NativeNumber(0)...)
	return true
}

// newRule is a rule of terms, and why it is there.
func newRule(why string, terms ...term) Rule {
	texts := make([]string, len(terms))
	for i, t := range terms {
		texts[i] = t.nftText()
	}
	return Rule{Text: strings.Join(texts, " "), Comment: safeComment(why), terms: terms}
}

// plainRule is a rule in words.
func plainRule(format string, args ...any) Rule {
	return newRule("", words(fmt.Sprintf(format, args...)))
}
