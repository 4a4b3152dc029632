package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func sample(t *testing.T) Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Image{
		Ref: "tierwall/sample:dev",
		Layers: []Layer{
			{"/etc/passwd": Text("root"), "/bin": Link("usr/bin"), "/tmp": Dir(fs.ModeSticky | 0o777)},
			{"/usr/bin/program": Program(program)},
		},
		Entrypoint: []string{"/usr/bin/program"},
		Env:        []string{"PATH=/usr/bin"},
		User:       "65532:65532",
	}
}

func TestArchiveDependsOnContentsAlone(t *testing.T) {
	var archives [2][]byte
	for i := range archives { // from two directories, at two times
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := sample(t).WriteTar(file); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		archives[i] = text
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("the same image, packed twice, gave two archives")
	}
}

func TestImageAsPacked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := sample(t).WriteTar(file); err != nil {
		t.Fatal(err)
	}
	packed, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := packed.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c := config.Config; c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/usr/bin/program"}) || config.OS != "linux" {
		t.Errorf("configuration: %+v", config)
	}
	layers, err := packed.Layers()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"bin -> usr/bin Lrwxrwxrwx", "etc/ drwxr-xr-x", "etc/passwd -rw-r--r--", "tmp/ dtrwxrwxrwx",
		"usr/ drwxr-xr-x", "usr/bin/ drwxr-xr-x", "usr/bin/program -rwxr-xr-x",
	}
	var got []string
	for _, layer := range layers {
		r, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, list(t, r)...)
		r.Close()
	}
	if !slices.Equal(got, want) {
		t.Errorf("files:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func list(t *testing.T, r io.Reader) []string {
	t.Helper()
	var names []string
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return names
		} else if err != nil {
			t.Fatal(err)
		}
		name := h.Name
		if h.Linkname != "" {
			name += " -> " + h.Linkname
		}
		names = append(names, name+" "+h.FileInfo().Mode().String())
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
			t.Errorf("%s has the time %v", h.Name, h.ModTime)
		}
	}
}

func TestMissingFileIsAnError(t *testing.T) {
	img := Image{Ref: "tierwall/sample:dev", Layers: []Layer{{"/program": Program("/nonexistent")}}}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := img.WriteTar(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want one that says what does not exist", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("half an archive was left")
	}
}

func TestUserlandTakesWhatAFileNeeds(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"tool/usr/bin/real", "tool/usr/share/doc/tool/copyright", "tool/usr/bin/other", "lib/lib/x.so"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, file), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"tool/usr/bin/link": "real", "tool/usr/bin/broken": "/nowhere"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.take("/usr/bin/l*"); err != nil {
		t.Fatal(err)
	}
	layer := tree.layer()
	for file, want := range map[string]bool{
		"/usr/bin/link": true, "/usr/bin/real": true, "/usr/share/doc/tool/copyright": true,
		"/usr/bin/other": false, "/usr/lib/x.so": false,
	} {
		if _, got := layer[file]; got != want {
			t.Errorf("%s in the layer: %v, want %v", file, got, want)
		}
	}
	for _, pattern := range []string{"/usr/bin/broken", "/usr/bin/absent"} {
		if err := tree.take(pattern); err == nil {
			t.Errorf("%s was taken without what it needs", pattern)
		}
	}
}
