package report

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Style is how text for people looks. Its zero value is plain.
type Style struct {
	color bool
	width int // columns; 0 is as wide as it gets
}

// StyleFor is the style of a writer: with colours on a terminal that has not been
// asked for none (https://no-color.org).
func StyleFor(out io.Writer) Style {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return Style{}
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 0
	}
	return Style{color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", width: width}
}

func (s Style) paint(code, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bad is text that tells of harm.
func (s Style) Bad(text string) string { return s.paint("31", text) }

// Notice is text that is worth a look.
func (s Style) Notice(text string) string { return s.paint("33", text) }

// Good is text that says that all is well.
func (s Style) Good(text string) string { return s.paint("32", text) }

// Strong is text that stands out.
func (s Style) Strong(text string) string { return s.paint("1", text) }

// Faint is text that stands back.
func (s Style) Faint(text string) string { return s.paint("2", text) }

// Wrap breaks text into lines of the terminal's width, all but the first indented.
func (s Style) Wrap(text string, indent int) string {
	if s.width < indent+40 {
		return text
	}
	var b strings.Builder
	column := indent
	for i, word := range strings.Fields(text) {
		switch {
		case i > 0 && column+1+len(word) > s.width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		case i > 0:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
