package sctp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A packet is an SCTP packet, without its checksum (RFC 9260, section 3).
type packet struct {
	source, destination uint16
	tag                 uint32 // verification tag
	chunks              []chunk
}

// A chunk is a part of a packet. The meaning of flags and body is its kind's.
type chunk struct {
	kind  kind
	flags byte
	body  []byte
}

type kind byte

// Kinds of chunks (RFC 9260, section 3.2).
const (
	kindData             kind = 0
	kindInit             kind = 1
	kindInitAck          kind = 2
	kindSack             kind = 3
	kindHeartbeat        kind = 4
	kindHeartbeatAck     kind = 5
	kindAbort            kind = 6
	kindShutdown         kind = 7
	kindShutdownAck      kind = 8
	kindError            kind = 9
	kindCookieEcho       kind = 10
	kindCookieAck        kind = 11
	kindShutdownComplete kind = 14
)

// flagReflected is the T bit of ABORT and SHUTDOWN COMPLETE: the sender has no
// association, and the verification tag is the one that it got.
const flagReflected = 1

// Sizes in bytes.
const (
	headerSize      = 12
	chunkHeaderSize = 4
	checksumAt      = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC32c of a packet whose checksum field is zero (RFC 9260,
// appendix A).
func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// marshal is the packet as it is sent, with its checksum.
func (p packet) marshal() []byte {
	b := make([]byte, headerSize, headerSize+64)
	binary.BigEndian.PutUint16(b, p.source)
	binary.BigEndian.PutUint16(b[2:], p.destination)
	binary.BigEndian.PutUint32(b[4:], p.tag)
	for _, c := range p.chunks {
		b = append(b, byte(c.kind), c.flags)
		b = binary.BigEndian.AppendUint16(b, uint16(chunkHeaderSize+len(c.body)))
		b = append(b, c.body...)
		b = append(b, make([]byte, padding(len(c.body)))...)
	}
	binary.LittleEndian.PutUint32(b[checksumAt:], checksum(b))
	return b
}

// padding is the zero bytes that follow n bytes up to the next multiple of 4.
func padding(n int) int { return -n & 3 }

var (
	errTruncated = errors.New("truncated")
	errChecksum  = errors.New("wrong checksum")
)

// parse reads a packet. Its chunks are copies. The error says why the packet
// is to be ignored.
func parse(b []byte) (packet, error) {
	if len(b) < headerSize {
		return packet{}, fmt.Errorf("SCTP header: %w", errTruncated)
	}
	b = append([]byte(nil), b...)
	sum := binary.LittleEndian.Uint32(b[checksumAt:])
	clear(b[checksumAt:headerSize])
	if sum != checksum(b) {
		return packet{}, fmt.Errorf("SCTP packet: %w", errChecksum)
	}
	p := packet{
		source:      binary.BigEndian.Uint16(b),
		destination: binary.BigEndian.Uint16(b[2:]),
		tag:         binary.BigEndian.Uint32(b[4:]),
	}
	for rest := b[headerSize:]; len(rest) > 0; {
		c, size, err := parseChunk(rest)
		if err != nil {
			return packet{}, err
		}
		p.chunks = append(p.chunks, c)
		rest = rest[size:]
	}
	return p, nil
}

// parseChunk reads the first chunk of b, and says how long it is with its padding,
// which may be missing at the end of a packet.
func parseChunk(b []byte) (chunk, int, error) {
	if len(b) < chunkHeaderSize {
		return chunk{}, 0, fmt.Errorf("SCTP chunk: %w", errTruncated)
	}
	size := int(binary.BigEndian.Uint16(b[2:]))
	if size < chunkHeaderSize || size > len(b) {
		return chunk{}, 0, fmt.Errorf("SCTP chunk of %d bytes: %w", size, errTruncated)
	}
	c := chunk{kind: kind(b[0]), flags: b[1], body: b[chunkHeaderSize:size:size]}
	return c, min(len(b), size+padding(size)), nil
}
