package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

func TestPagesAreUpToDate(t *testing.T) {
	for _, p := range pages() {
		want, err := p.render(root)
		if err != nil {
			t.Errorf("render %s: %v", p.file, err)
			continue
		}
		got, err := os.ReadFile(filepath.Join(root, folder, p.file))
		if err != nil || string(got) != generated+want {
			t.Errorf("%s is out of date; run `make reference` (%v)", filepath.Join(folder, p.file), err)
		}
	}
}

// Every metric in an alert rule, in the dashboard or in a page for users is one that the source declares.
func TestMetricsThatAreUsedAreDeclared(t *testing.T) {
	declared := map[string]bool{}
	for _, dir := range []string{"webhook", "enforcer"} {
		found, err := declaredMetrics(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range found {
			declared[m.name] = true
		}
	}
	if len(declared) < 20 {
		t.Fatalf("%d metrics are declared; the source is not read as it is written", len(declared))
	}
	files, err := filepath.Glob(filepath.Join(root, "charts", "tierwall", "files", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of the chart: %v", err)
	}
	for _, file := range append(files, filepath.Join(root, "docs", "operations.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a folder
		}
		for _, word := range strings.FieldsFunc(string(text), func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
		}) {
			name := word
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				name = strings.TrimSuffix(name, suffix)
			}
			if strings.HasPrefix(word, "tierwall_") && !declared[word] && !declared[name] {
				t.Errorf("%s uses the metric %s, which nothing declares", filepath.Base(file), word)
			}
		}
	}
}
