package images

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A tree is the files of unpacked packages, at the paths that they have on a
// system with merged /usr, and those of them that have been taken.
type tree struct {
	files map[string]packaged
	taken map[string]bool
}

// packaged is a file and the package that it is from.
type packaged struct{ pkg, source string }

// merged are the directories that are links into /usr.
var merged = []string{"bin", "lib", "lib64", "sbin"}

func mergedPath(file string) string {
	top, _, _ := strings.Cut(strings.TrimPrefix(file, "/"), "/")
	if slices.Contains(merged, top) {
		return "/usr" + file
	}
	return file
}

// readTree reads a directory of unpacked packages.
func readTree(root string) (*tree, error) {
	t := &tree{files: map[string]packaged{}, taken: map[string]bool{}}
	err := filepath.WalkDir(root, func(source string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, err := filepath.Rel(root, source)
		if err != nil {
			return err
		}
		pkg, file, _ := strings.Cut(relative, "/")
		t.files[mergedPath("/"+file)] = packaged{pkg, source}
		return nil
	})
	return t, err
}

// take takes the files that match a pattern, and all that they need.
func (t *tree) take(pattern string) error {
	if t.taken[pattern] {
		return nil
	}
	if _, ok := t.files[pattern]; ok {
		t.taken[pattern] = true
		return t.takeNeeds(pattern)
	}
	found := false
	for _, file := range slices.Sorted(maps.Keys(t.files)) {
		match, err := path.Match(pattern, file)
		if err != nil {
			return err
		}
		if !match || file == pattern {
			continue
		}
		found = true
		if err := t.take(file); err != nil {
			return err
		}
	}
	if !found {
		return errors.New("no package has such a file")
	}
	return nil
}

// takeNeeds takes what one file needs.
func (t *tree) takeNeeds(file string) error {
	source := t.files[file].source
	info, err := os.Lstat(source)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(source)
		if err != nil {
			return err
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(file), target)
		}
		return t.takeFor(file, mergedPath(target))
	}
	for _, needed := range elfNeeds(source) {
		if !path.IsAbs(needed) {
			if needed, err = t.library(needed); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
		if err := t.takeFor(file, mergedPath(needed)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) takeFor(file, needed string) error {
	if err := t.take(needed); err != nil {
		return fmt.Errorf("%s needs %s: %w", file, needed, err)
	}
	return nil
}

// elfNeeds is the dynamic linker and the names of the shared libraries that a
// program or library asks for; nothing for other files.
func elfNeeds(source string) []string {
	program, err := elf.Open(source)
	if err != nil {
		return nil // not ELF
	}
	defer program.Close()
	needs, err := program.ImportedLibraries()
	if err != nil {
		return nil // not dynamic
	}
	for _, segment := range program.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, segment.Filesz)
		if _, err := segment.ReadAt(name, 0); err == nil {
			needs = append(needs, strings.TrimRight(string(name), "\x00"))
		}
	}
	return needs
}

// library finds a shared library in the directories of the dynamic linker.
func (t *tree) library(name string) (string, error) {
	for _, pattern := range []string{"/usr/lib/*/" + name, "/usr/lib/" + name} {
		for _, file := range slices.Sorted(maps.Keys(t.files)) {
			if match, err := path.Match(pattern, file); err == nil && match {
				return file, nil
			}
		}
	}
	return "", fmt.Errorf("no package has the library %s", name)
}

// layer is what was taken, with copyright files and licenses.
func (t *tree) layer() Layer {
	layer := Layer{"/run": Dir(0o755), "/tmp": Dir(fs.ModeSticky | 0o777)}
	for _, name := range merged {
		layer["/"+name] = Link("usr/" + name)
		layer["/usr/"+name] = Dir(0o755)
	}
	packages := map[string]bool{}
	for file := range t.taken {
		layer[file] = diskFile(t.files[file].source)
		packages[t.files[file].pkg] = true
	}
	for file, from := range t.files {
		license := from.pkg == licensePackage && strings.HasPrefix(file, "/usr/share/common-licenses/")
		copyright := packages[from.pkg] && strings.HasPrefix(file, "/usr/share/doc/") &&
			(path.Base(file) == "copyright" || path.Dir(file) == "/usr/share/doc")
		if license || copyright {
			layer[file] = diskFile(from.source)
		}
	}
	return layer
}

// diskFile is a file or link as it is on disk.
func diskFile(source string) File {
	if target, err := os.Readlink(source); err == nil {
		return Link(target)
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(source); err == nil {
		mode = info.Mode().Perm()
	}
	return File{Mode: mode, Source: source}
}
