package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MaxFile is how many bytes of one file are read.
const MaxFile = 256 << 20

// Reader reads objects.
type Reader struct {
	// Namespace is that of objects that name none.
	Namespace string
	// Stdin is what the path "-" stands for.
	Stdin io.Reader
}

// Read reads the objects of files and folders, in the order given and those of a
// folder by name. All that is wrong is returned, not the first thing alone.
func (r Reader) Read(paths ...string) ([]*Object, []Error) {
	var all []*Object
	var errs []Error
	for _, path := range paths {
		files, found := r.files(path)
		errs = append(errs, found...)
		for _, file := range files {
			text, err := r.contents(file)
			if err != nil {
				errs = append(errs, Error{File: file, Message: err.Error()})
				continue
			}
			objects, found := r.objects(file, text)
			all, errs = append(all, objects...), append(errs, found...)
		}
	}
	return all, append(errs, twice(all)...)
}

// twice finds objects that are there more than once: which of them would be in
// force depends on who applies them in which order.
func twice(objects []*Object) []Error {
	var errs []Error
	first := map[string]*Object{}
	for _, o := range objects {
		if o.Value == nil {
			continue
		}
		if other := first[o.ID()]; other != nil {
			errs = append(errs, Error{File: o.File, Line: o.Line(""), Object: o.ID(),
				Message: fmt.Sprintf("is also in %s:%d", other.File, other.Line(""))})
			continue
		}
		first[o.ID()] = o
	}
	return errs
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

// files are the files of a path: itself, or those of the folder with manifests.
func (r Reader) files(path string) ([]string, []Error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, []Error{{File: path, Message: reason(err).Error()}}
	case !info.IsDir():
		return []string{path}, nil
	}
	w := walk{inside: map[string]bool{}}
	w.folder(path)
	if len(w.files) == 0 && len(w.errs) == 0 {
		w.errs = []Error{{File: path, Message: "there is no .yaml, .yml or .json file in this folder"}}
	}
	return w.files, w.errs
}

// walk goes through a folder. It follows links, but never into a folder that it
// is in, and leaves out what is hidden, as names with a dot in front are.
type walk struct {
	files  []string
	errs   []Error
	inside map[string]bool
}

func (w *walk) folder(path string) {
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
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") {
			w.entry(filepath.Join(path, entry.Name()))
		}
	}
}

func (w *walk) entry(path string) {
	isManifest := slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(path)))
	info, err := os.Stat(path)
	switch {
	case err != nil && !isManifest: // such as a link that leads nowhere
	case err != nil:
		w.fail(path, err)
	case info.IsDir():
		w.folder(path)
	case isManifest:
		w.files = append(w.files, path)
	}
}

func (w *walk) fail(path string, err error) {
	w.errs = append(w.errs, Error{File: path, Message: reason(err).Error()})
}
