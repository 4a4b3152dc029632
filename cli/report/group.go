package report

import (
	"bufio"
	"fmt"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/cli/check"
)

// Lists for people are cut after so many entries; -o json has them whole.
const (
	shownObjects = 5
	shownAlike   = 3
	shownErrors  = 20
	// maxMessage is how many characters of a message are shown, and tailMessage how many
	// of them from its end, where the advice is.
	maxMessage, tailMessage = 700, 240
)

// group is findings of one rule that say the same of several objects.
type group struct {
	first    check.Finding
	message  string
	findings []check.Finding
}

// groupFindings joins the findings that differ by their objects' names alone, in the order
// of the first of each.
func groupFindings(findings []check.Finding) []*group {
	type key struct {
		level         check.Level
		rule, message string
	}
	var out []*group
	known := map[key]*group{}
	for _, f := range findings {
		message := strings.ReplaceAll(f.Message, f.Object, "each of them")
		k := key{f.Level, f.Rule, message}
		g := known[k]
		if g == nil {
			g = &group{first: f, message: message}
			known[k] = g
			out = append(out, g)
		}
		g.findings = append(g.findings, f)
	}
	return out
}

// objects are the findings of a group, one of each object.
func (g *group) objects() []check.Finding {
	var out []check.Finding
	seen := map[string]bool{}
	for _, f := range g.findings {
		if !seen[f.Object] {
			seen[f.Object] = true
			out = append(out, f)
		}
	}
	return out
}

// writeFindings writes what concerns several objects first, and then the rest by object.
func writeFindings(w *bufio.Writer, style Style, findings []check.Finding) {
	joined := map[check.Finding]bool{}
	for _, g := range groupFindings(findings) {
		if objects := g.objects(); len(objects) > 1 {
			writeGroup(w, style, g, objects)
			for _, f := range g.findings {
				joined[f] = true
			}
		}
	}
	writeByObject(w, style, slices.DeleteFunc(slices.Clone(findings), func(f check.Finding) bool { return joined[f] }))
}

func writeGroup(w *bufio.Writer, style Style, g *group, objects []check.Finding) {
	const indent = 4
	fmt.Fprintf(w, "%s  %s  %s\n", level(g.first.Level, style), g.first.Rule, style.Strong(plural(len(objects), "object")))
	fmt.Fprintf(w, "%*s%s\n", indent, "", style.Wrap(shorten(capitalize(g.message)), indent))
	for i, f := range objects {
		if i == shownObjects && len(objects) > shownObjects+1 {
			fmt.Fprintf(w, "%*s%s\n", indent, "", style.Faint(fmt.Sprintf("and %d more", len(objects)-i)))
			break
		}
		fmt.Fprintf(w, "%*s%s  %s\n", indent, "", f.Object, style.Faint(strings.TrimSpace(f.File+"  "+place(f))))
	}
	fmt.Fprintln(w)
}

// writeByObject writes findings under their objects; those of one rule are cut.
func writeByObject(w *bufio.Writer, style Style, findings []check.Finding) {
	ruleWidth := 0
	for _, f := range findings {
		ruleWidth = max(ruleWidth, len(f.Rule))
	}
	object := ""
	alike := map[string]int{}
	for i, f := range findings {
		if at := f.File + " " + f.Object; at != object {
			object = at
			clear(alike)
			fmt.Fprintf(w, "%s  %s\n", style.Strong(f.Object), style.Faint(f.File))
		}
		const indent = 4
		kind := string(f.Level) + f.Rule
		if alike[kind]++; alike[kind] > shownAlike {
			if next := i + 1; next == len(findings) || findings[next].Rule != f.Rule || findings[next].Object != f.Object || findings[next].Level != f.Level {
				fmt.Fprintf(w, "  %s  %-*s  %s\n\n", level(f.Level, style), ruleWidth, f.Rule, style.Faint(fmt.Sprintf("and %d more", alike[kind]-shownAlike)))
			}
			continue
		}
		fmt.Fprintf(w, "  %s  %-*s  %s\n", level(f.Level, style), ruleWidth, f.Rule, style.Faint(place(f)))
		fmt.Fprintf(w, "%*s%s\n\n", indent, "", style.Wrap(shorten(f.Message), indent))
	}
}

// shorten leaves out the middle of a message that nobody would read to its end.
func shorten(message string) string {
	if runes := []rune(message); len(runes) > maxMessage {
		return string(runes[:maxMessage-tailMessage]) + " … " + string(runes[len(runes)-tailMessage:])
	}
	return message
}

func capitalize(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
