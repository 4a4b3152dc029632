package sctp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// An initiation is the body of INIT and INIT ACK (RFC 9260, sections 3.3.2 and
// 3.3.3). Cookie is that of an INIT ACK.
type initiation struct {
	tag    uint32 // that the other side is to put into its packets
	tsn    uint32 // of the first DATA chunk
	cookie []byte
}

const (
	initiationSize  = 16
	parameterCookie = 7
	// window is the buffer that is advertised, in bytes. Nobody looks at it.
	window = 1 << 16
)

func (i initiation) chunk(kind kind) chunk {
	b := binary.BigEndian.AppendUint32(nil, i.tag)
	b = binary.BigEndian.AppendUint32(b, window)
	b = binary.BigEndian.AppendUint16(b, 1) // outbound streams
	b = binary.BigEndian.AppendUint16(b, 1) // inbound streams
	b = binary.BigEndian.AppendUint32(b, i.tsn)
	if i.cookie != nil {
		b = binary.BigEndian.AppendUint16(b, parameterCookie)
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(i.cookie)))
		b = append(b, i.cookie...)
	}
	return chunk{kind: kind, body: b}
}

// parseInitiation reads the body of an INIT or INIT ACK. Parameters other than
// the cookie are ignored.
func parseInitiation(b []byte) (initiation, error) {
	if len(b) < initiationSize {
		return initiation{}, fmt.Errorf("SCTP INIT: %w", errTruncated)
	}
	i := initiation{tag: binary.BigEndian.Uint32(b), tsn: binary.BigEndian.Uint32(b[12:])}
	if i.tag == 0 {
		return initiation{}, errors.New("SCTP INIT: initiate tag is zero")
	}
	for rest := b[initiationSize:]; len(rest) >= 4; {
		size := int(binary.BigEndian.Uint16(rest[2:]))
		if size < 4 || size > len(rest) {
			return initiation{}, fmt.Errorf("SCTP INIT parameter: %w", errTruncated)
		}
		if binary.BigEndian.Uint16(rest) == parameterCookie {
			i.cookie = rest[4:size]
		}
		rest = rest[min(len(rest), size+padding(size)):]
	}
	return i, nil
}

// A message is the body of a DATA chunk (RFC 9260, section 3.3.1) that has all
// of a user message.
type message struct {
	tsn      uint32
	sequence uint16 // in its stream
	data     []byte
}

const (
	messageHeaderSize = 12
	flagsWhole        = 3 // the B and E bits: beginning and end
	// maxMessage is the most bytes that a message may have, so that its packet
	// fits into any network of IPv6.
	maxMessage = 1024
)

func (m message) chunk() chunk {
	b := binary.BigEndian.AppendUint32(nil, m.tsn)
	b = binary.BigEndian.AppendUint16(b, 0) // stream
	b = binary.BigEndian.AppendUint16(b, m.sequence)
	b = binary.BigEndian.AppendUint32(b, 0) // payload protocol
	return chunk{kind: kindData, flags: flagsWhole, body: append(b, m.data...)}
}

func parseMessage(c chunk) (message, error) {
	if len(c.body) <= messageHeaderSize {
		return message{}, fmt.Errorf("SCTP DATA: %w", errTruncated)
	}
	if c.flags&flagsWhole != flagsWhole {
		return message{}, errors.New("SCTP DATA: fragments are not supported")
	}
	return message{
		tsn:      binary.BigEndian.Uint32(c.body),
		sequence: binary.BigEndian.Uint16(c.body[6:]),
		data:     c.body[messageHeaderSize:],
	}, nil
}

// sack acknowledges all messages up to tsn (RFC 9260, section 3.3.4).
func sack(tsn uint32) chunk {
	b := binary.BigEndian.AppendUint32(nil, tsn)
	b = binary.BigEndian.AppendUint32(b, window)
	return chunk{kind: kindSack, body: append(b, 0, 0, 0, 0)} // no gaps, no duplicates
}

// shutdown acknowledges like sack, and says that nothing more will be sent.
func shutdown(tsn uint32) chunk {
	return chunk{kind: kindShutdown, body: binary.BigEndian.AppendUint32(nil, tsn)}
}

// acknowledged is the TSN that a SACK or SHUTDOWN acknowledges.
func acknowledged(c chunk) (uint32, error) {
	if len(c.body) < 4 {
		return 0, fmt.Errorf("SCTP acknowledgement: %w", errTruncated)
	}
	return binary.BigEndian.Uint32(c.body), nil
}

// before reports whether a TSN comes before another (RFC 1982).
func before(a, b uint32) bool { return int32(a-b) < 0 }
