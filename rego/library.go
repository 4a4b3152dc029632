package rego

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
)

// files are the sources of the library, their tests included: flat, so that
// "opa test rego/library" and "conftest -p rego/library" work as they are.
//
//go:embed library/*.rego
var files embed.FS

// sharedFile is the package tierwall.lib, which guardrails may import.
const sharedFile = "library/lib.rego"

// LibraryEntry is a guardrail that comes with tierwall.
type LibraryEntry struct {
	// Name is what a Guardrail's spec.library says.
	Name string
	// Title, Description and Severity are from its METADATA.
	Title, Description, Severity string
	// Parameters are those that it takes, by name.
	Parameters map[string]Parameter
	// Source is its Rego.
	Source string
}

// Library is the guardrails that come with tierwall, sorted by name.
func Library() []LibraryEntry {
	sources := loadLibrary()
	entries := make([]LibraryEntry, 0, len(sources))
	for _, s := range sources {
		entries = append(entries, LibraryEntry{
			Name: s.name, Title: s.about.title, Description: s.about.description,
			Severity: s.about.severity, Parameters: s.about.parameters, Source: s.text,
		})
	}
	return entries
}

// loadLibrary parses the embedded guardrails once. What is embedded is known to
// parse, as the tests show; if it did not, no guardrail could be trusted.
var loadLibrary = sync.OnceValue(func() []*source {
	names, err := fs.Glob(files, "library/*.rego")
	if err != nil {
		panic(err)
	}
	var sources []*source
	for _, file := range names {
		if file == sharedFile || strings.HasSuffix(file, "_test.rego") {
			continue
		}
		name := strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".rego"), "_", "-")
		s, err := parseGuardrail(name, file, embeddedFile(file))
		if err != nil {
			panic(fmt.Errorf("parsing the guardrail library: %w", err))
		}
		sources = append(sources, s)
	}
	return sources
})

func embeddedFile(file string) string {
	text, err := files.ReadFile(file)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func libraryNames() []string {
	var names []string
	for _, s := range loadLibrary() {
		names = append(names, s.name)
	}
	return names
}

// inLibrary is the source of a guardrail of the library, nil if there is none of that name.
func inLibrary(name string) *source {
	for _, s := range loadLibrary() {
		if s.name == name {
			return s
		}
	}
	return nil
}
