package netns

import (
	"strings"
	"sync"
)

// lastGuarded is the last line in which a guard says what it has written, and discards all others.
type lastGuarded struct {
	mu   sync.Mutex
	line string
	// due is whether the guard has a program, and so writes.
	due bool
}

// begin forgets what a guard before wrote.
func (w *lastGuarded) begin(due bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.line, w.due = "", due
}

func (w *lastGuarded) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text := string(line); strings.Contains(text, "msg=guarded") {
		w.line = text
	}
	return len(line), nil
}

// judges reports whether the sources of an interface are judged. They are not as long as no route leads to it, and a
// kernel that has its name in a set may have no rule that looks it up yet. A guard without a program writes nothing.
func (w *lastGuarded) judges(link string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	own, _, _ := strings.Cut(w.line, " new=")
	return w.line == "" && !w.due || guarded(strings.NewReplacer("[", " ", "]", " ").Replace(own), link)
}

// guarded reports whether an interface is among what a guard wrote.
func guarded(text, link string) bool {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n\",", r) }) {
		if word == link {
			return true
		}
	}
	return false
}
