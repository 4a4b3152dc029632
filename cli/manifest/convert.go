package manifest

import (
	"bytes"
	"fmt"

	yamlnode "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// maxRepetition is how many bytes aliases may add to a document.
const maxRepetition = 16 << 20

// convertYAML returns a document of YAML as JSON, as kubectl converts it: what a merge key
// brings counts less than what is written.
func convertYAML(text []byte) ([]byte, error) {
	if err := checkRepetition(text); err != nil {
		return nil, err
	}
	return yaml.YAMLToJSON(text)
}

// checkRepetition returns an error for a text whose aliases make it much longer than it is.
func checkRepetition(text []byte) error {
	if bytes.IndexByte(text, '&') < 0 || bytes.IndexByte(text, '*') < 0 {
		return nil
	}
	var root yamlnode.Node
	if err := yamlnode.Unmarshal(text, &root); err != nil {
		return err
	}
	m := measure{sizes: map[*yamlnode.Node]int{}}
	if m.size(&root) > len(text)*2+maxRepetition {
		return fmt.Errorf("yaml: document contains excessive aliasing: it repeats more than %d MiB", maxRepetition>>20)
	}
	return nil
}

// measure computes how large nodes are with what their aliases stand for.
type measure struct {
	sizes map[*yamlnode.Node]int
}

// tooLarge is more than any document may have, and can be added to without overflow.
const tooLarge = 1 << 40

func (m *measure) size(n *yamlnode.Node) int {
	if known, ok := m.sizes[n]; ok {
		return known
	}
	m.sizes[n] = tooLarge // what contains itself has no end
	sum := len(n.Value) + 1
	if n.Kind == yamlnode.AliasNode {
		sum = m.size(n.Alias)
	}
	for _, c := range n.Content {
		sum = min(sum+m.size(c), tooLarge)
	}
	m.sizes[n] = sum
	return sum
}

// duplicate is a key that a mapping has twice.
type duplicate struct {
	name string
	line int // within the document
}

// findDuplicates returns the keys that mappings have twice. A key that a merge brings
// and that is written too is none.
func findDuplicates(n *yamlnode.Node, found []duplicate) []duplicate {
	seen := map[string]bool{}
	for i, child := range n.Content {
		if n.Kind == yamlnode.MappingNode && i%2 == 0 {
			if seen[child.Value] && child.Tag != mergeTag {
				found = append(found, duplicate{child.Value, child.Line})
			}
			seen[child.Value] = true
		}
		found = findDuplicates(child, found)
	}
	return found
}
