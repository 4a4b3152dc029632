package spoof

import (
	"slices"
	"strings"
)

// sortedWords returns the words of a text in order: the order in which tools print members does not matter.
func sortedWords(text string) string {
	fields := strings.Fields(text)
	slices.Sort(fields)
	return strings.Join(fields, " ")
}

// mentionsAll reports whether each phrase is in a text at least so many times.
func mentionsAll(text string, times int, phrases ...string) bool {
	return !slices.ContainsFunc(phrases, func(p string) bool { return strings.Count(text, p) < times })
}

// containsAllNames reports whether all interfaces are in a text, separated by spaces, quotes and commas.
func containsAllNames(text string, interfaces []string) bool {
	in := map[string]bool{}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n\",", r) }) {
		in[word] = true
	}
	return !slices.ContainsFunc(interfaces, func(name string) bool { return !in[name] })
}
