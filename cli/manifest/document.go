package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"

	yamlnode "go.yaml.in/yaml/v3"
)

// document is a part of a file that is one object or list.
type document struct {
	text []byte
	// line is that of the file, from 1 on, on which the text begins.
	line int
	json bool
	// unseen reports whether kubectl reads the document before it, and not this one.
	unseen bool
	// rendered reports whether the text is in no file, so that it has no line.
	rendered bool
	// root is the parsed text, for finding lines; nil where it cannot be parsed.
	root func() *yamlnode.Node
}

func newDocument(text []byte, line int, ofJSON, unseen bool) *document {
	d := &document{text: text, line: line, json: ofJSON, unseen: unseen}
	d.root = sync.OnceValue(func() *yamlnode.Node {
		var n yamlnode.Node
		if err := yamlnode.Unmarshal(d.text, &n); err != nil || len(n.Content) == 0 {
			return nil
		}
		return n.Content[0]
	})
	return d
}

// isJSON is how a document of JSON begins; YAML can begin with a brace too.
var isJSON = regexp.MustCompile(`^\s*\{\s*["}]`)

// splitter finds the documents of a file.
type splitter struct {
	text []byte
	docs []*document
	// begin is where the next document begins, on the line of the file.
	begin, line int
	// inSight is false after a document that kubectl does not end where YAML does.
	inSight, any bool
}

// splitDocuments returns the parts of a file that hold something. The error is that of
// JSON, at the line.
func splitDocuments(text []byte) (docs []*document, line int, err error) {
	s := splitter{text: text, line: 1, inSight: true}
	for _, m := range findMarkers(text) {
		if line, err := s.add(m.at); err != nil {
			return s.docs, line, err
		}
		s.begin = m.end
		s.inSight = m.separates || !s.any
		s.any = s.any && !m.separates
	}
	line, err = s.add(len(text))
	return s.docs, line, err
}

// add takes the text up to an offset as a document.
func (s *splitter) add(end int) (line int, err error) {
	part := s.text[s.begin:end]
	first := s.line
	s.line += bytes.Count(part, []byte("\n"))
	s.begin = end
	if !holdsSomething(part) {
		return 0, nil
	}
	s.any = true
	blank := part[:len(part)-len(bytes.TrimLeft(part, " \t\r\n"))]
	blank = blank[:bytes.LastIndexByte(blank, '\n')+1]
	first += bytes.Count(blank, []byte("\n"))
	part = bytes.TrimPrefix(part[len(blank):], utf8Mark)
	if !isJSON.Match(part) {
		s.docs = append(s.docs, newDocument(part, first, false, !s.inSight))
		return 0, nil
	}
	docs, line, err := jsonDocuments(part, first, !s.inSight)
	if err == nil {
		s.docs = append(s.docs, docs...)
		return 0, nil
	}
	if _, notYAML := convertYAML(part); notYAML == nil {
		s.docs = append(s.docs, newDocument(part, first, false, !s.inSight))
		return 0, nil
	}
	s.docs = append(s.docs, docs...)
	return line, err
}

// linesBefore counts the lines of comments and directives that a text begins with.
func linesBefore(text []byte) int {
	n := 0
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return n
		}
		n++
	}
	return 0
}

// holdsSomething reports whether there is more than comments and directives.
func holdsSomething(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return true
		}
	}
	return false
}

// jsonDocuments returns the values of a text of JSON, one after the other.
func jsonDocuments(text []byte, first int, unseen bool) (docs []*document, line int, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	for {
		var value json.RawMessage
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return docs, 0, nil
		}
		if err != nil {
			offset := int64(len(bytes.TrimSpace(text)))
			if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
				offset = syntax.Offset
			}
			return docs, first + bytes.Count(text[:min(int(offset), len(text))], []byte("\n")), err
		}
		begin := int(decoder.InputOffset()) - len(value)
		docs = append(docs, newDocument(value, first+bytes.Count(text[:begin], []byte("\n")), true, unseen))
	}
}

// lineOf is the line of the file that a field is on, or the nearest thing around it.
func (d *document) lineOf(pointer string) int {
	switch {
	case d.rendered:
		return 0
	case pointer == "": // without parsing what may be large
		return d.line + linesBefore(d.text)
	}
	n := d.root()
	if n == nil {
		return d.line
	}
	line := n.Line
	for _, part := range strings.Split(pointer, "/")[1:] {
		var at int
		if n, at = child(n, unescape.Replace(part)); n == nil {
			break
		}
		line = at
	}
	return d.line + line - 1
}

var unescape = strings.NewReplacer("~1", "/", "~0", "~")

// child is what a node has under a key or a number, and its line; nil where there is nothing.
// Of a key that is there twice it is the last, as for kubectl.
func child(n *yamlnode.Node, key string) (*yamlnode.Node, int) {
	if n.Kind == yamlnode.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yamlnode.MappingNode:
		for i := len(n.Content)/2*2 - 2; i >= 0; i -= 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1], n.Content[i].Line
			}
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Tag != mergeTag {
				continue
			}
			if found, line := mergedChild(n.Content[i+1], key); found != nil {
				return found, line
			}
		}
	case yamlnode.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	}
	return nil, 0
}

// mergeTag is the tag of the key "<<" (YAML 1.1, merge).
const mergeTag = "!!merge"

// mergedChild finds a key in the mapping, or one of the mappings, that another one merges.
func mergedChild(n *yamlnode.Node, key string) (*yamlnode.Node, int) {
	if n.Kind != yamlnode.SequenceNode {
		return directChild(n, key)
	}
	for _, one := range n.Content {
		if found, line := directChild(one, key); found != nil {
			return found, line
		}
	}
	return nil, 0
}

// directChild finds a key that is written in a mapping, which bounds the search where
// merges go in circles.
func directChild(n *yamlnode.Node, key string) (*yamlnode.Node, int) {
	if n.Kind == yamlnode.AliasNode {
		n = n.Alias
	}
	for i := 0; n.Kind == yamlnode.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1], n.Content[i].Line
		}
	}
	return nil, 0
}
