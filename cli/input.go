package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/report"
	"github.com/tierwall/tierwall/internal/unenforced"
)

// input is the flags that say which manifests are read, and how.
type input struct {
	files, kustomizations []string
	exclude, templates    []string
}

func (in *input) addTo(fs *pflag.FlagSet) {
	fs.StringSliceVarP(&in.files, "filename", "f", nil, "a `PATH` of manifests: a file, a folder, or - for standard input; may be repeated")
	fs.StringSliceVarP(&in.kustomizations, "kustomize", "k", nil, "a `DIR` with a kustomization, which is rendered; nothing is fetched and no plugin runs; may be repeated")
	fs.StringArrayVar(&in.exclude, "exclude", nil, "a `GLOB` of files to leave out, as a line of .gitignore; may be repeated")
	fs.StringArrayVar(&in.templates, "template", nil, "a `KIND=PATH` of objects that make pods, such as Rollout.argoproj.io=spec.template; may be repeated")
}

// isEmpty reports whether no manifests are named.
func (in *input) isEmpty() bool { return len(in.files)+len(in.kustomizations) == 0 }

// read reads the manifests.
func (in *input) read(c *cobra.Command, namespace string) (manifest.Reading, error) {
	return in.readPaths(c, namespace, in.files, in.kustomizations)
}

// readPaths reads other manifests in the same way.
func (in *input) readPaths(c *cobra.Command, namespace string, paths, kustomizations []string) (manifest.Reading, error) {
	if len(paths)+len(kustomizations) == 0 {
		return manifest.Reading{}, errors.New("no manifests: give files or folders with -f, or - for standard input, or a kustomization with -k")
	}
	for _, p := range paths {
		if p == "-" && isTerminal(c.InOrStdin()) {
			return manifest.Reading{}, errors.New("-f -: standard input is a terminal")
		}
	}
	reader := manifest.Reader{Namespace: namespace, Stdin: c.InOrStdin(), Exclude: in.exclude}
	for _, text := range in.templates {
		t, err := manifest.ParseTemplateKind(text)
		if err != nil {
			return manifest.Reading{}, fmt.Errorf("--template %w", err)
		}
		reader.Templates = append(reader.Templates, t)
	}
	return reader.ReadAll(paths, kustomizations), nil
}

// tell prints what was not read, what other engines enforce, and what is wrong; the error is
// for the last.
func tell(notes io.Writer, reading manifest.Reading, others []unenforced.Count) error {
	for _, text := range report.ErrorTexts(reading.Errors) {
		fmt.Fprintln(notes, "error: "+text)
	}
	for _, note := range report.Notes(reading, others) {
		fmt.Fprintln(notes, note)
	}
	if len(reading.Errors) > 0 {
		return errTold
	}
	return nil
}

// addCounts adds up counts of the same kinds.
func addCounts(some, more []unenforced.Count) []unenforced.Count {
	counter := unenforced.Counter{}
	for _, c := range slices.Concat(some, more) {
		counter[[2]string{c.Group, c.Kind}] += c.Count
	}
	return counter.Counts()
}
