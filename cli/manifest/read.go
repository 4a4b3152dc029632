package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// MaxFile is how many bytes of one file are read.
const MaxFile = 256 << 20

// Reader reads objects.
type Reader struct {
	// Namespace is that of objects that name none.
	Namespace string
	// Stdin is what the path "-" stands for.
	Stdin io.Reader
	// Exclude are the files that are left out, in the syntax of .gitignore.
	Exclude []string
	// Templates are kinds that make pods, besides those that are known.
	Templates []TemplateKind
}

// Reading is what was read of files, and what was not.
type Reading struct {
	Objects []*Object
	// Errors are all that is wrong, not the first thing alone.
	Errors []Error
	// Warnings are what was read otherwise than it is written.
	Warnings []Error
	// Skipped are the files that hold no object, and why; Excluded is how many files
	// were left out as the caller asked.
	Skipped  []Error
	Excluded int
}

// Read reads the objects of files and folders, without what is of no harm.
func (r Reader) Read(paths ...string) ([]*Object, []Error) {
	reading := r.ReadAll(paths, nil)
	return reading.Objects, reading.Errors
}

// ReadAll reads the objects of files and folders, in the order given and those of a
// folder by name, and then those that kustomizations render. A file without an object is
// an error if it was named, and skipped in a folder.
func (r Reader) ReadAll(paths, kustomizations []string) Reading {
	var out Reading
	var empty []Error
	for _, path := range paths {
		found := r.find(path)
		out.Errors, out.Excluded = append(out.Errors, found.errs...), out.Excluded+found.excluded
		for i, d := range r.decodeFiles(found.files) {
			file := found.files[i]
			out.take(d, file != path)
			if len(d.objects)+len(d.errs)+len(d.foreign) == 0 {
				empty = append(empty, Error{File: file, Message: "there is no object in it"})
			}
		}
	}
	for _, folder := range kustomizations {
		out.take(r.kustomization(folder), false)
	}
	if len(out.Objects)+len(out.Errors) == 0 && len(empty) > 0 {
		out.Errors, empty = empty, nil
	}
	out.Skipped = append(out.Skipped, empty...)
	if len(out.Objects)+len(out.Errors) == 0 {
		out.Errors = append(out.Errors, out.Skipped...)
	}
	nameGenerated(out.Objects)
	out.removeDuplicates()
	return out
}

// take adds what was found in a file.
func (r *Reading) take(d *decoder, inFolder bool) {
	r.Objects = append(r.Objects, d.objects...)
	r.Errors, r.Warnings = append(r.Errors, d.errs...), append(r.Warnings, d.warnings...)
	switch {
	case len(d.foreign) == 0:
	case inFolder && len(d.objects)+len(d.errs) == 0:
		skipped := d.foreign[0]
		skipped.Line = 0
		skipped.Message = cmp.Or(knownFile(d.file), skipped.Message)
		r.Skipped = append(r.Skipped, skipped)
	default:
		r.Errors = append(r.Errors, d.foreign...)
	}
}

// knownFile says what a file is that other programs read, by its name.
func knownFile(file string) string {
	switch name := filepath.Base(file); {
	case isKustomization(name):
		return "is a kustomization; -k renders it"
	case name == "Chart.yaml":
		return "is a Helm chart; pipe what \"helm template\" renders into -f -"
	case strings.EqualFold(name, "values.yaml"):
		return "is no Kubernetes object, but values of a chart"
	default:
		return ""
	}
}

// decodeFiles reads files, several at once, and returns what is in each of them.
func (r Reader) decodeFiles(files []string) []*decoder {
	decoded := make([]*decoder, len(files))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, file := range files {
		group.Go(func() error {
			decoded[i] = r.decodeFile(file)
			return nil
		})
	}
	_ = group.Wait() // decoders hold the errors
	return decoded
}

func (r Reader) decodeFile(file string) *decoder {
	text, err := r.contents(file)
	if err != nil {
		return &decoder{Reader: r, file: file, errs: []Error{{File: file, Message: err.Error()}}}
	}
	return r.decode(file, text)
}

// nameGenerated gives objects with a generated name names that differ from each other.
func nameGenerated(objects []*Object) {
	taken := map[string]int{}
	for _, o := range objects {
		if !o.generated || o.Value == nil {
			continue
		}
		id := o.ID()
		if taken[id]++; taken[id] > 1 {
			o.Name += fmt.Sprintf("(%d)", taken[id])
			o.Value.SetName(o.Name)
		}
	}
}

// removeDuplicates keeps the first of objects with the same kind and name. Equal content is a warning. Other
// content is an error: which object would be in force depends on the order in which they are applied.
func (r *Reading) removeDuplicates() {
	first := map[string]*Object{}
	r.Objects = slices.DeleteFunc(r.Objects, func(o *Object) bool {
		if o.Value == nil {
			return false
		}
		other := first[o.ID()]
		if other == nil {
			first[o.ID()] = o
			return false
		}
		e := Error{File: o.File, Line: o.Line(""), Object: o.ID(), AlsoIn: other.File,
			Message: fmt.Sprintf("is also in %s:%d", other.File, other.Line(""))}
		if hasEqualContent(o, other) {
			e.Message += " with the same content, and is read once"
			r.Warnings = append(r.Warnings, e)
			return true
		}
		r.Errors = append(r.Errors, e)
		return false
	})
}

// hasEqualContent reports whether the API server would store the same of both objects.
func hasEqualContent(a, b *Object) bool {
	x, errA := a.JSON()
	y, errB := b.JSON()
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

func (r Reader) contents(file string) ([]byte, error) {
	in := r.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, reason(err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, MaxFile+1))
	if err != nil {
		return nil, reason(err)
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("has more than %d MiB", MaxFile>>20)
	}
	return text, nil
}

// reason is the error without the path, which is said before it.
func reason(err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return fmt.Errorf("cannot be read: %w", pathErr.Err)
	}
	return err
}

// find returns the files of a path: itself, or those of the folder with manifests.
func (r Reader) find(path string) walk {
	w := walk{inside: map[string]bool{}}
	if path == "-" {
		w.files = []string{path}
		return w
	}
	exclude, err := parseIgnore(strings.Join(r.Exclude, "\n"))
	if err != nil {
		w.errs = []Error{{File: path, Message: "--exclude: " + err.Error()}}
		return w
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		w.errs = []Error{{File: path, Message: reason(err).Error()}}
		return w
	case !info.IsDir() && exclude.matches(filepath.ToSlash(filepath.Clean(path)), false):
		w.excluded++
		return w
	case !info.IsDir():
		w.files = []string{path}
		return w
	}
	w.folder(path, []ignoreFile{{folder: path, rules: exclude}})
	if len(w.files) == 0 && len(w.errs) == 0 {
		w.errs = []Error{{File: path, Message: "there is no .yaml, .yml or .json file in this folder"}}
	}
	return w
}

// walk goes through a folder. It follows links, but never into a folder that it
// is in, and leaves out what is hidden, as names with a dot in front are.
type walk struct {
	files    []string
	errs     []Error
	excluded int
	inside   map[string]bool
}

// folder goes through a folder, leaving out what the files of it and of those above name.
func (w *walk) folder(path string, ignored []ignoreFile) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		w.fail(path, err)
		return
	}
	if w.inside[real] {
		return
	}
	w.inside[real] = true
	defer delete(w.inside, real)
	entries, err := os.ReadDir(path)
	if err != nil {
		w.fail(path, err)
		return
	}
	own, err := readIgnore(path)
	if err != nil {
		w.fail(filepath.Join(path, ignoreName), err)
		return
	}
	ignored = append(slices.Clip(ignored), own...)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") {
			w.entry(filepath.Join(path, entry.Name()), ignored)
		}
	}
}

func (w *walk) entry(path string, ignored []ignoreFile) {
	isManifest := slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(path)))
	info, err := os.Stat(path)
	switch {
	case err != nil && !isManifest: // such as a link that leads nowhere
	case isIgnored(path, err == nil && info.IsDir(), ignored):
		w.excluded++
	case err != nil:
		w.fail(path, err)
	case info.IsDir():
		w.folder(path, ignored)
	case isManifest:
		w.files = append(w.files, path)
	}
}

func (w *walk) fail(path string, err error) {
	w.errs = append(w.errs, Error{File: path, Message: reason(err).Error()})
}
