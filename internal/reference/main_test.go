package main

import (
	"os"
	"path/filepath"
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
