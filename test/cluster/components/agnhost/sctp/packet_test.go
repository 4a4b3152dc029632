package sctp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
)

// captured are the packets of an association of two Linux kernels, from the
// tests of github.com/google/gopacket (BSD licence).
func captured(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/capture.txt")
	if err != nil {
		t.Fatal(err)
	}
	packets := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		name, digits, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if packets[name], err = hex.DecodeString(digits); err != nil {
			t.Fatal(err)
		}
	}
	return packets
}

// RFC 3720, appendix B.4.
func TestChecksumGolden(t *testing.T) {
	up, down := make([]byte, 32), make([]byte, 32)
	for i := range up {
		up[i], down[i] = byte(i), byte(31-i)
	}
	for _, c := range []struct {
		name string
		data []byte
		want uint32
	}{
		{"zeroes", make([]byte, 32), 0x8a9136aa},
		{"ones", bytes.Repeat([]byte{0xff}, 32), 0x62a8ab43},
		{"incrementing", up, 0x46dd794e},
		{"decrementing", down, 0x113fdb5c},
	} {
		if got := checksum(c.data); got != c.want {
			t.Errorf("%s: %08x; want %08x", c.name, got, c.want)
		}
	}
}

func TestParseCaptured(t *testing.T) {
	kinds := map[string][]kind{
		"INIT": {kindInit}, "INIT ACK": {kindInitAck}, "COOKIE ECHO, DATA": {kindCookieEcho, kindData},
		"COOKIE ACK, SACK": {kindCookieAck, kindSack}, "DATA": {kindData}, "SACK": {kindSack},
		"SHUTDOWN": {kindShutdown}, "SHUTDOWN ACK": {kindShutdownAck}, "SHUTDOWN COMPLETE": {kindShutdownComplete},
	}
	packets := captured(t)
	if len(packets) != len(kinds) {
		t.Fatalf("%d packets; want %d", len(packets), len(kinds))
	}
	for name, b := range packets {
		p, err := parse(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []kind
		for _, c := range p.chunks {
			got = append(got, c.kind)
		}
		if string(kindBytes(got)) != string(kindBytes(kinds[name])) {
			t.Errorf("%s: chunks %v; want %v", name, got, kinds[name])
		}
		if again := p.marshal(); !bytes.Equal(again, b) {
			t.Errorf("%s: marshals as\n%x; want\n%x", name, again, b)
		}
	}
}

func kindBytes(kinds []kind) (b []byte) {
	for _, k := range kinds {
		b = append(b, byte(k))
	}
	return b
}

func TestParseInitiationCaptured(t *testing.T) {
	for name, want := range map[string]struct {
		tag, tsn uint32
		cookie   int
	}{
		"INIT":     {0xb696b09e, 0xdb856023, 0},
		"INIT ACK": {0x3280fb42, 0x8598b126, 228},
	} {
		p, err := parse(captured(t)[name])
		if err != nil {
			t.Fatal(err)
		}
		i, err := parseInitiation(p.chunks[0].body)
		if err != nil || i.tag != want.tag || i.tsn != want.tsn || len(i.cookie) != want.cookie {
			t.Errorf("%s: tag %08x, TSN %08x, cookie of %d bytes, error %v; want %+v", name, i.tag, i.tsn, len(i.cookie), err, want)
		}
	}
}

func TestEveryWrongBitIsFound(t *testing.T) {
	b := captured(t)["INIT"]
	for i := range len(b) * 8 {
		wrong := bytes.Clone(b)
		wrong[i/8] ^= 1 << (i % 8)
		if _, err := parse(wrong); !errors.Is(err, errChecksum) {
			t.Fatalf("bit %d: error %v", i, err)
		}
	}
}

// reseal gives bytes a right checksum, so that a fuzzer gets past it.
func reseal(b []byte) []byte {
	if len(b) < headerSize {
		return b
	}
	b = bytes.Clone(b)
	clear(b[checksumAt:headerSize])
	sum := checksum(b)
	b[checksumAt], b[checksumAt+1], b[checksumAt+2], b[checksumAt+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	return b
}

func FuzzParse(f *testing.F) {
	for _, b := range captured(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(reseal(b))
		if err != nil {
			return
		}
		for _, c := range p.chunks {
			_, _ = parseInitiation(c.body)
			_, _ = parseMessage(c)
			_, _ = acknowledged(c)
		}
		again, err := parse(p.marshal())
		if err != nil || len(again.chunks) != len(p.chunks) || again.tag != p.tag {
			t.Errorf("%+v becomes %+v, error %v", p, again, err)
		}
	})
}
