package manifest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	yamlnode "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// maxRenderReads is how many files one kustomization may read, those read again included: a
// few files that refer to each other can be many more than they are.
const maxRenderReads = 2_000

func isKustomization(name string) bool {
	return slices.Contains(konfig.RecognizedKustomizationFileNames(), name)
}

// kustomization renders a folder with a kustomization, and reads the objects. Nothing is
// fetched, no plugin runs, and no file outside of the folder's own kustomizations is read.
func (r Reader) kustomization(folder string) *decoder {
	d := &decoder{Reader: r, file: folder}
	if d.file = kustomizationFile(folder); d.file == "" {
		d.file = folder
		d.errs = append(d.errs, Error{File: folder, Message: "is no folder with a kustomization.yaml"})
		return d
	}
	files := &localFiles{FileSystem: filesys.MakeFsOnDisk()}
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, folder)
	if err = errors.Join(files.refused, err); err != nil {
		if files.refused != nil { // kustomize wraps it in guesses of its own
			err = files.refused
		}
		d.errs = append(d.errs, Error{File: d.file, Message: "cannot be rendered: " + strings.Join(strings.Fields(err.Error()), " ")})
		return d
	}
	for _, resource := range rendered.Resources() {
		text, err := resource.MarshalJSON()
		if err != nil {
			d.errs = append(d.errs, Error{File: d.file, Message: fmt.Sprintf("render %s: %v", resource.CurId(), err)})
			continue
		}
		doc := newDocument(text, 0, true, false)
		doc.rendered = true
		d.value(doc, "", text, head{}, 0)
	}
	return d
}

// IsKustomizationFolder reports whether a path is a folder with a kustomization in it.
func IsKustomizationFolder(path string) bool { return kustomizationFile(path) != "" }

// kustomizationFile is the file of a kustomization in a folder, or empty.
func kustomizationFile(folder string) string {
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
			return filepath.Join(folder, name)
		}
	}
	return ""
}

// localFiles is the file system without files that refer to others elsewhere: kustomize
// would fetch those, and has no option that forbids it.
type localFiles struct {
	filesys.FileSystem
	reads   int
	size    int
	refused error
}

// ReadFile reads a file.
func (f *localFiles) ReadFile(path string) ([]byte, error) {
	if f.refused != nil {
		return nil, f.refused
	}
	text, err := f.FileSystem.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f.reads++
	f.size += len(text)
	switch {
	case f.reads > maxRenderReads || f.size > MaxFile:
		f.refused = fmt.Errorf("it reads more than %d files or %d MiB", maxRenderReads, MaxFile>>20)
	case isKustomization(filepath.Base(path)):
		f.refused = f.checkKustomization(path, text)
	case strings.Contains(string(text), "://") && strings.Contains(string(text), "builtin"):
		f.refused = f.checkKustomization(path, text) // the configuration of a transformer
	}
	return text, f.refused
}

// checkKustomization returns an error if a kustomization refers to what is not here.
func (f *localFiles) checkKustomization(path string, text []byte) error {
	decoder := yamlnode.NewDecoder(strings.NewReader(string(text)))
	for {
		var root yamlnode.Node
		if err := decoder.Decode(&root); err != nil {
			return nil // kustomize says what is wrong with it
		}
		c := check{files: f.FileSystem, folder: filepath.Dir(path), seen: map[*yamlnode.Node]bool{}}
		c.node(&root, "")
		if c.remote != "" {
			return fmt.Errorf("%s refers to %s, and nothing is fetched: render it with kustomize, and pipe the result into -f -", path, c.remote)
		}
	}
}

// check looks for references to elsewhere.
type check struct {
	files  filesys.FileSystem
	folder string
	remote string
	seen   map[*yamlnode.Node]bool
}

// rootKeys are those whose values are files or folders that are read as resources, and
// textKeys those whose values are never read from anywhere.
var (
	rootKeys = []string{"resources", "bases", "components", "generators", "transformers", "validators", "crds", "configurations"}
	textKeys = []string{"literals", "commonAnnotations", "annotations", "commonLabels", "labels", "pairs", "patch", "value", "valuesInline", "images", "target"}
)

// node looks at a node that is a key's value, or in the list that is.
func (c *check) node(n *yamlnode.Node, key string) {
	if c.seen[n] || c.remote != "" || slices.Contains(textKeys, key) {
		return
	}
	c.seen[n] = true
	switch n.Kind {
	case yamlnode.AliasNode:
		c.node(n.Alias, key)
	case yamlnode.ScalarNode:
		if c.isRemote(n.Value, key) {
			c.remote = n.Value
		}
	case yamlnode.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			c.node(n.Content[i+1], n.Content[i].Value)
		}
	default:
		for _, child := range n.Content {
			c.node(child, key)
		}
	}
}

// isRemote reports whether kustomize could fetch what a value refers to.
func (c *check) isRemote(value, key string) bool {
	inline := strings.Contains(value, "\n")
	lower := strings.ToLower(value)
	if !slices.Contains(rootKeys, key) {
		return !inline && (strings.Contains(lower, "http:") || strings.Contains(lower, "https:"))
	}
	if inline {
		return strings.Contains(lower, "http:") || strings.Contains(lower, "https:")
	}
	return strings.ContainsAny(value, ":@") || strings.HasPrefix(strings.TrimPrefix(lower, "www."), "github.com") ||
		!c.files.Exists(filepath.Join(c.folder, value))
}
