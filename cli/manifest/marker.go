package manifest

import (
	"bytes"
)

// A marker is the line that ends a document and begins another.
type marker struct {
	// at is the offset of the marker, and end that of what follows its three characters.
	at, end int
	// separates reports whether kubectl ends the document there (apimachinery, YAMLReader).
	separates bool
}

// findMarkers returns the markers of YAML (1.2, section 9.1) and of kubectl, which takes
// "---#" for one too, and does not take "...".
func findMarkers(text []byte) []marker {
	var out []marker
	for i := 0; i+3 <= len(text); i++ {
		if text[i] != '-' && text[i] != '.' || !beginsLine(text, i) {
			continue
		}
		three := string(text[i : i+3])
		if three != "---" && three != "..." {
			continue
		}
		m := marker{at: i, end: i + 3}
		if three == "---" && (i == 0 || text[i-1] == '\n') {
			rest, _, _ := bytes.Cut(text[m.end:], []byte("\n"))
			rest = bytes.TrimSpace(rest)
			m.separates = len(rest) == 0 || rest[0] == '#'
		}
		if m.separates || endsWord(text[m.end:]) {
			out = append(out, m)
		}
	}
	return out
}

// beginsLine reports whether a line break of YAML 1.1 comes before the offset.
func beginsLine(text []byte, i int) bool {
	before := text[:i]
	return i == 0 || text[i-1] == '\n' || text[i-1] == '\r' || bytes.HasSuffix(before, []byte("\u0085")) ||
		bytes.HasSuffix(before, []byte("\u2028")) || bytes.HasSuffix(before, []byte("\u2029"))
}

// endsWord reports whether a blank, a line break of YAML 1.1 or nothing follows.
func endsWord(rest []byte) bool {
	if len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n\x00"), rest[0]) >= 0 {
		return true
	}
	return bytes.HasPrefix(rest, []byte("\u0085")) || bytes.HasPrefix(rest, []byte("\u2028")) || bytes.HasPrefix(rest, []byte("\u2029"))
}
