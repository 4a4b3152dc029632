package sctp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
)

// A cookie is all that a server must know to make an association, so that an
// INIT costs it no memory (RFC 9260, section 5.1.3).
type cookie struct{ localTag, remoteTag, localTSN, remoteTSN uint32 }

// A seal makes cookies that only its owner can make, and that are good for one
// path alone.
type seal struct{ key [32]byte }

func newSeal() *seal {
	var s seal
	rand.Read(s.key[:])
	return &s
}

const cookieSize = 16

func (s *seal) marshal(c cookie, p path) []byte {
	b := binary.BigEndian.AppendUint32(nil, c.localTag)
	b = binary.BigEndian.AppendUint32(b, c.remoteTag)
	b = binary.BigEndian.AppendUint32(b, c.localTSN)
	b = binary.BigEndian.AppendUint32(b, c.remoteTSN)
	return append(b, s.sum(b, p)...)
}

func (s *seal) parse(b []byte, p path) (cookie, error) {
	if len(b) < cookieSize || !hmac.Equal(b[cookieSize:], s.sum(b[:cookieSize], p)) {
		return cookie{}, errors.New("SCTP COOKIE ECHO: not a cookie of this server")
	}
	return cookie{
		localTag:  binary.BigEndian.Uint32(b),
		remoteTag: binary.BigEndian.Uint32(b[4:]),
		localTSN:  binary.BigEndian.Uint32(b[8:]),
		remoteTSN: binary.BigEndian.Uint32(b[12:]),
	}, nil
}

func (s *seal) sum(b []byte, p path) []byte {
	sum := hmac.New(sha256.New, s.key[:])
	sum.Write(b)
	sum.Write([]byte(p.local.String() + " " + p.remote.String()))
	return sum.Sum(nil)
}

// A path is the two ends of an association.
type path struct{ local, remote netip.AddrPort }

// newTag is a random verification tag, or TSN: not zero.
func newTag() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return max(1, binary.BigEndian.Uint32(b[:]))
}
