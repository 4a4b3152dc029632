package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// ignoreName is the file that names what is left out of a folder, in the syntax of
// .gitignore (git-scm.com/docs/gitignore).
const ignoreName = ".tierwallignore"

// maxIgnore is how many bytes such a file may have, and maxPattern how many a line of it.
const (
	maxIgnore  = 64 << 10
	maxPattern = 1 << 10
)

// ignoreRule is a line of such a file.
type ignoreRule struct {
	pattern string
	// include reports whether what an earlier line leaves out is not; folders, whether only
	// folders match.
	include, folders bool
}

type ignoreRules []ignoreRule

// ignoreFile is rules for what is below a folder.
type ignoreFile struct {
	folder string
	rules  ignoreRules
}

// readIgnore reads the rules of a folder, if it has some.
func readIgnore(folder string) ([]ignoreFile, error) {
	name := filepath.Join(folder, ignoreName)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > maxIgnore || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is no file of at most %d KiB", maxIgnore>>10)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	rules, err := parseIgnore(string(text))
	return []ignoreFile{{folder, rules}}, err
}

// parseIgnore parses lines of patterns.
func parseIgnore(text string) (ignoreRules, error) {
	var out ignoreRules
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if !strings.HasSuffix(line, `\ `) {
			line = strings.TrimRight(line, " \t")
		}
		if line == "" || line[0] == '#' {
			continue
		}
		rule := ignoreRule{include: line[0] == '!'}
		line = strings.TrimPrefix(line, "!")
		rule.folders = strings.HasSuffix(line, "/")
		line = strings.TrimSuffix(line, "/")
		anchored := strings.Contains(line, "/")
		if rule.pattern = strings.TrimPrefix(line, "/"); !anchored {
			rule.pattern = "**/" + rule.pattern
		}
		if len(line) > maxPattern || !doublestar.ValidatePattern(rule.pattern) {
			return nil, fmt.Errorf("%q is no pattern", line)
		}
		out = append(out, rule)
	}
	return out, nil
}

// matches reports whether a path, relative and with slashes, is left out: the last rule
// that matches decides.
func (rules ignoreRules) matches(relative string, folder bool) bool {
	out, _ := rules.decide(relative, folder)
	return out
}

func (rules ignoreRules) decide(relative string, folder bool) (out, decided bool) {
	for i := len(rules) - 1; i >= 0; i-- {
		rule := rules[i]
		if (folder || !rule.folders) && doublestar.MatchUnvalidated(rule.pattern, path.Clean(relative)) {
			return !rule.include, true
		}
	}
	return false, false
}

// isIgnored reports whether a path is left out: of the files that decide, the innermost
// folder's does.
func isIgnored(name string, folder bool, files []ignoreFile) bool {
	for i := len(files) - 1; i >= 0; i-- {
		relative, err := filepath.Rel(files[i].folder, name)
		if err != nil {
			continue
		}
		if out, decided := files[i].rules.decide(filepath.ToSlash(relative), folder); decided {
			return out
		}
	}
	return false
}
