package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// colours reports whether the output is a terminal that may be coloured.
func colours() bool { return term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == "" }

func paint(code, s string) string {
	if !colours() {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func bold(s string) string  { return paint("1", s) }
func green(s string) string { return paint("32", s) }
func faint(s string) string { return paint("2", s) }

// heading begins a part of the story.
func heading(n int, title string) { fmt.Printf("\n%s\n", bold(fmt.Sprintf("%d  %s", n, title))) }

// say prints a line of the story.
func say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// wrap breaks a line at spaces, so that no part is longer than width unless a word is.
func wrap(line string, width int) []string {
	var out []string
	for len(line) > width {
		cut := strings.LastIndex(line[:width], " ")
		if cut <= 0 {
			break
		}
		out = append(out, line[:cut])
		line = "  " + line[cut+1:]
	}
	return append(out, line)
}
