package nftables

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/policy"
)

// term is a part of a rule. What a person and nft read and what the kernel does come from
// the same fields.
type term interface {
	// text is the term as nft reads it.
	text() string
	// express adds what the kernel does for it; false says that only nft can say it.
	express(e *expressions) bool
}

// words are a term that only nft can say: of the chains that are written once.
type words string

func (w words) text() string              { return string(w) }
func (w words) express(*expressions) bool { return false }

// field is a field of a packet.
type field struct {
	name, datatype string
	// base is the header that it is in, offset and size, in bytes, where it is there; one that is
	// in none is the protocol above IP.
	base         uint32
	offset, size uint32
	// family is the one whose header has the field.
	family family
}

var (
	protocolField = field{name: "meta l4proto", datatype: "inet_proto", size: 1}
	portField     = field{name: "th dport", datatype: "inet_service", base: unix.NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, size: 2}
)

// portFields are a port of a protocol.
var portFields = fields{protocolField, portField}

// addressField is the source or the destination of a packet (RFC 791, section 3.1; RFC 8200, section 3).
func addressField(f family, source bool) field {
	out := field{name: f.header() + " daddr", datatype: f.addressType(), base: unix.NFT_PAYLOAD_NETWORK_HEADER, offset: 16, size: 4, family: f}
	if f == ipv6 {
		out.offset, out.size = 24, 16
	}
	if source {
		out.name, out.offset = f.header()+" saddr", out.offset-out.size
	}
	return out
}

// fields are what is looked up together.
type fields []field

func (f fields) text() string {
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

// in says that fields are in a set.
type in struct {
	fields
	set string
	// ranges says that the set holds ranges.
	ranges bool
}

func (t in) text() string { return t.fields.text() + " @" + t.set }

func (t in) express(e *expressions) bool {
	e.load(t.fields, t.ranges)
	e.lookup(t.set, 0, false)
	return true
}

// among says that fields are one of some values, each as the key of a set.
type among struct {
	fields
	values []string
}

func (t among) text() string {
	return t.fields.text() + " { " + strings.Join(t.values, ", ") + " }"
}

func (t among) express(e *expressions) bool {
	id, ok := e.batch.anonymous(t.setType(), t.values)
	e.load(t.fields, false)
	e.lookup(anonymousSet, id, false)
	return ok
}

// by goes where a map says that fields lead.
type by struct {
	fields
	verdicts string
	// ranges reports whether the map holds ranges.
	ranges bool
}

func (t by) text() string { return t.fields.text() + " vmap @" + t.verdicts }

func (t by) express(e *expressions) bool {
	e.load(t.fields, t.ranges)
	e.lookup(t.verdicts, 0, true)
	return true
}

// of says that a packet is of a protocol.
type of policy.Protocol

func (t of) text() string { return protocolField.name + " " + strconv.Itoa(int(t)) }

func (t of) express(e *expressions) bool {
	e.load(fields{protocolField}, false)
	e.compare(unix.NFT_CMP_EQ, byte(t))
	return true
}

// portWithin says that the destination's port is in a range of more than one.
type portWithin rulegroup.Span

func (t portWithin) text() string { return portField.name + " " + portText(rulegroup.Span(t)) }

func (t portWithin) express(e *expressions) bool {
	e.load(fields{portField}, false)
	e.compare(unix.NFT_CMP_GTE, byte(t.First>>8), byte(t.First))
	e.compare(unix.NFT_CMP_LTE, byte(t.Last>>8), byte(t.Last))
	return true
}

// inBlock says that an address is in a block.
type inBlock struct {
	field
	block
}

func (t inBlock) text() string { return t.name + " " + t.block.text() }

// express compares as nft does: of a network as many bytes as its prefix has, if it is of whole ones.
func (t inBlock) express(e *expressions) bool {
	first, last := t.first.AsSlice(), t.last.AsSlice()
	network, err := netip.ParsePrefix(t.block.text())
	whole := err == nil && network.Bits()%8 == 0
	if whole {
		t.size = uint32(network.Bits() / 8)
	}
	e.load(fields{t.field}, false)
	switch {
	case whole:
		e.compare(unix.NFT_CMP_EQ, first[:t.size]...)
		return t.size > 0
	case err == nil:
		e.mask(maskOf(network)...)
		e.compare(unix.NFT_CMP_EQ, first...)
	case t.first == t.last:
		e.compare(unix.NFT_CMP_EQ, first...)
	default:
		e.compare(unix.NFT_CMP_GTE, first...)
		e.compare(unix.NFT_CMP_LTE, last...)
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

func (t stray) text() string {
	if policy.Protocol(t) == policy.SCTP {
		return "meta l4proto sctp sctp chunk init missing ct state invalid,new"
	}
	return "tcp flags & (fin | syn | rst | ack) != syn ct state invalid,new"
}

func (t stray) express(e *expressions) bool {
	const (
		flagsOffset              = 13 // of TCP, RFC 9293, section 3.1
		fin, syn, rst, ack  byte = 1, 2, 4, 16
		initChunk           byte = 1 // RFC 9260, section 3.2
		invalid, newlyBegun byte = 1, 8
	)
	of(t).express(e)
	if policy.Protocol(t) == policy.SCTP {
		e.chunkPresent(initChunk)
		e.compare(unix.NFT_CMP_EQ, 0)
	} else {
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, flagsOffset, 1, firstRegister)
		e.mask(fin | syn | rst | ack)
		e.compare(unix.NFT_CMP_NEQ, syn)
	}
	e.connectionState()
	e.mask(nativeNumber(uint32(invalid | newlyBegun))...)
	e.compare(unix.NFT_CMP_NEQ, nativeNumber(0)...)
	return true
}

// newRule is a rule of terms, and why it is there.
func newRule(why string, terms ...term) Rule {
	texts := make([]string, len(terms))
	for i, t := range terms {
		texts[i] = t.text()
	}
	return Rule{Text: strings.Join(texts, " "), Comment: comment(why), terms: terms}
}

// plain is a rule in words.
func plain(format string, args ...any) Rule { return newRule("", words(fmt.Sprintf(format, args...))) }
