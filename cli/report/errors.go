package report

import (
	"fmt"
	"strings"

	"github.com/tierwall/tierwall/cli/manifest"
)

// ErrorTexts says for people what is wrong with the input. Objects that are there twice, as where a
// folder has several installations of a program, are told together.
func ErrorTexts(errs []manifest.Error) []string {
	var twice []manifest.Error
	var out []string
	for _, e := range errs {
		if e.AlsoIn != "" {
			twice = append(twice, e)
		}
	}
	joined := len(twice) > shownAlike
	for _, e := range errs {
		if !joined || e.AlsoIn == "" {
			out = append(out, e.Error())
		}
	}
	if more := len(out) - shownErrors; more > 1 {
		out = append(out[:shownErrors], fmt.Sprintf("and %d more; check -o json lists them", more))
	}
	if joined {
		out = append(out, twiceText(twice))
	}
	return out
}

// twiceText says which files repeat objects of others, and what to do.
func twiceText(errs []manifest.Error) string {
	type pair struct{ file, other string }
	count := map[pair]int{}
	var pairs []pair
	for _, e := range errs {
		p := pair{e.File, e.AlsoIn}
		if count[p]++; count[p] == 1 {
			pairs = append(pairs, p)
		}
	}
	var texts []string
	for i, p := range pairs {
		if i == shownAlike && len(pairs) > shownAlike+1 {
			texts = append(texts, fmt.Sprintf("and %d more files that repeat others", len(pairs)-i))
			break
		}
		texts = append(texts, fmt.Sprintf("%s repeats %d of %s", p.file, count[p], p.other))
	}
	return fmt.Sprintf("%d objects are there more than once, such as %s: %s. These seem to be several installations: name the files or the folder of one, "+
		"render one with -k, or leave the others out with --exclude or .tierwallignore.",
		len(errs), errs[0].Object, strings.Join(texts, ", "))
}
