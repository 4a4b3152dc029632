package manifest

import (
	"bytes"
	"fmt"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// byteOrderMarks are the encodings that a file's first bytes name. UTF-32 comes first, as
// the mark of UTF-16 is the beginning of one of its own.
var byteOrderMarks = []struct {
	mark     []byte
	name     string
	encoding encoding.Encoding
}{
	{[]byte{0xff, 0xfe, 0, 0}, "UTF-32", utf32.UTF32(utf32.LittleEndian, utf32.ExpectBOM)},
	{[]byte{0, 0, 0xfe, 0xff}, "UTF-32", utf32.UTF32(utf32.BigEndian, utf32.ExpectBOM)},
	{[]byte{0xff, 0xfe}, "UTF-16", unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM)},
	{[]byte{0xfe, 0xff}, "UTF-16", unicode.UTF16(unicode.BigEndian, unicode.ExpectBOM)},
}

var utf8Mark = []byte("\xef\xbb\xbf")

// decodeText returns a file's text as UTF-8 without byte order mark. Without a mark it is
// UTF-8 already, as for kubectl.
func decodeText(text []byte) ([]byte, error) {
	for _, m := range byteOrderMarks {
		if !bytes.HasPrefix(text, m.mark) {
			continue
		}
		decoded, err := m.encoding.NewDecoder().Bytes(text)
		if err != nil {
			return nil, fmt.Errorf("is not %s, although it begins as such: %w", m.name, err)
		}
		return decoded, nil
	}
	return bytes.TrimPrefix(text, utf8Mark), nil
}
