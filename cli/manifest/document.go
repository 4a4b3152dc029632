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
	// root is the parsed text, for finding lines; nil where it cannot be parsed.
	root func() *yamlnode.Node
}

func newDocument(text []byte, line int, ofJSON bool) *document {
	d := &document{text: text, line: line, json: ofJSON}
	d.root = sync.OnceValue(func() *yamlnode.Node {
		var n yamlnode.Node
		if err := yamlnode.Unmarshal(d.text, &n); err != nil || len(n.Content) == 0 {
			return nil
		}
		return n.Content[0]
	})
	return d
}

// separator is a line that ends a document (YAML 1.2, section 9.1). What follows
// the dashes on the line belongs to the next document.
var separator = regexp.MustCompile(`(?m)^(---|\.\.\.)([ \t].*)?\r?$`)

// isJSON is how a file of JSON begins; YAML can begin with a brace too.
var isJSON = regexp.MustCompile(`^\s*\{\s*["}]`)

// documents are the parts of a file that hold something. The error is that of
// JSON, at the line.
func documents(text []byte) (docs []*document, line int, err error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if isJSON.Match(text) {
		return jsonDocuments(text)
	}
	line, begin := 1, 0
	add := func(end int) {
		if part := text[begin:end]; holdsSomething(part) {
			blank := part[:len(part)-len(bytes.TrimLeft(part, " \t\r\n"))]
			blank = blank[:bytes.LastIndexByte(blank, '\n')+1]
			docs = append(docs, newDocument(part[len(blank):], line+bytes.Count(blank, []byte("\n")), false))
		}
		line += bytes.Count(text[begin:end], []byte("\n"))
		begin = end
	}
	for _, at := range separator.FindAllIndex(text, -1) {
		add(at[0])
		begin += len("---")
	}
	add(len(text))
	return docs, 0, nil
}

// holdsSomething says whether there is more than comments and directives.
func holdsSomething(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return true
		}
	}
	return false
}

// jsonDocuments are the values of a file of JSON, one after the other.
func jsonDocuments(text []byte) (docs []*document, line int, err error) {
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
			return docs, 1 + bytes.Count(text[:min(int(offset), len(text))], []byte("\n")), err
		}
		begin := int(decoder.InputOffset()) - len(value)
		docs = append(docs, newDocument(value, 1+bytes.Count(text[:begin], []byte("\n")), true))
	}
}

// lineOf is the line of the file that a field is on, or the nearest thing around it.
func (d *document) lineOf(pointer string) int {
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
func child(n *yamlnode.Node, key string) (*yamlnode.Node, int) {
	if n.Kind == yamlnode.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yamlnode.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return n.Content[i+1], n.Content[i].Line
			}
		}
	case yamlnode.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
	}
	return nil, 0
}
