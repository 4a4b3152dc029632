package spoof

import (
	"slices"
	"strings"
)

// words are those of a text, sorted: the order in which tools print members means nothing.
func words(text string) string {
	fields := strings.Fields(text)
	slices.Sort(fields)
	return strings.Join(fields, " ")
}

// mentions reports whether each of some phrases is in a text so many times at least.
func mentions(text string, times int, phrases ...string) bool {
	return !slices.ContainsFunc(phrases, func(p string) bool { return strings.Count(text, p) < times })
}

// names reports whether all interfaces are in a text, in which they are parted from all else by
// spaces, quotes and commas.
func names(text string, interfaces []string) bool {
	in := map[string]bool{}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n\",", r) }) {
		in[word] = true
	}
	return !slices.ContainsFunc(interfaces, func(name string) bool { return !in[name] })
}
