package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An Image is what to pack.
type Image struct {
	Ref        string  // for instance tierwall/webhook:dev
	Layers     []Layer // lowest first
	Entrypoint []string
	Cmd        []string
	Env        []string // NAME=value
	User       string   // user or user:group, by number; empty is root
	WorkingDir string
}

// A Layer is the files of one layer of an image, by absolute path. Parent
// directories need not be listed.
type Layer map[string]File

// A File is a regular file from Source or with Content, a symbolic link if
// Link is set, or a directory if Mode says so.
type File struct {
	Mode    fs.FileMode // 0 is 0644 for a file and 0777 for a link
	Source  string      // path on this machine
	Content []byte
	Link    string
}

// Dir is an empty directory with this mode.
func Dir(mode fs.FileMode) File { return File{Mode: fs.ModeDir | mode} }

// Program is an executable file from this machine.
func Program(source string) File { return File{Mode: 0o755, Source: source} }

// Link is a symbolic link.
func Link(target string) File { return File{Link: target} }

// Text is a regular file with this content.
func Text(content string) File { return File{Content: []byte(content)} }

// WriteTar writes the image as an archive in the format of `docker save`. It
// replaces the file at once, when the archive is whole.
func (img Image) WriteTar(file string) error {
	if err := img.writeTar(file); err != nil {
		return fmt.Errorf("pack image %s: %w", img.Ref, err)
	}
	return nil
}

func (img Image) writeTar(file string) error {
	tag, err := name.NewTag(img.Ref)
	if err != nil {
		return err
	}
	packed, err := img.assemble()
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".packing-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	if err := tarball.Write(tag, packed, temp); err != nil {
		return err
	}
	if err := temp.Chmod(0o644); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}

// assemble makes layers and configuration.
func (img Image) assemble() (v1.Image, error) {
	packed := empty.Image
	for _, files := range img.Layers {
		data, err := files.tar()
		if err != nil {
			return nil, err
		}
		packed, err = mutate.AppendLayers(packed, static.NewLayer(data, types.DockerUncompressedLayer))
		if err != nil {
			return nil, err
		}
	}
	config, err := packed.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture()
	config.Config = v1.Config{
		Entrypoint: img.Entrypoint,
		Cmd:        img.Cmd,
		Env:        img.Env,
		User:       img.User,
		WorkingDir: img.WorkingDir,
	}
	return mutate.ConfigFile(packed, config)
}

// tar writes the layer's files, sorted, after their parent directories.
func (l Layer) tar() ([]byte, error) {
	files := l.withParents()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := files[path].write(w, path); err != nil {
			return nil, fmt.Errorf("file %s: %w", path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (l Layer) withParents() Layer {
	files := maps.Clone(l)
	for file := range l {
		for dir := path.Dir(file); dir != "/"; dir = path.Dir(dir) {
			if _, ok := files[dir]; !ok {
				files[dir] = Dir(0o755)
			}
		}
	}
	return files
}

func (f File) write(w *tar.Writer, path string) error {
	header := &tar.Header{
		Name:    strings.TrimPrefix(path, "/"),
		Mode:    int64(f.Mode.Perm()),
		ModTime: time.Unix(0, 0),
		Format:  tar.FormatPAX,
	}
	if f.Mode&fs.ModeSticky != 0 {
		header.Mode |= 0o1000
	}
	switch {
	case f.Link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.Link, 0o777
		return w.WriteHeader(header)
	case f.Mode.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		return w.WriteHeader(header)
	}
	return f.writeRegular(w, header)
}

func (f File) writeRegular(w *tar.Writer, header *tar.Header) error {
	content := f.Content
	if f.Source != "" {
		var err error
		if content, err = os.ReadFile(f.Source); err != nil {
			return err
		}
	}
	header.Typeflag, header.Size = tar.TypeReg, int64(len(content))
	if header.Mode == 0 {
		header.Mode = 0o644
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(w, bytes.NewReader(content))
	return err
}
