package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// MaxObject is how many bytes an object may have: the API server takes no more
// (k8s.io/apiserver, MaxRequestBodyBytes).
const MaxObject = 3 << 20

// maxNesting is how deep lists may be within lists.
const maxNesting = 16

// decoder reads the objects of one file.
type decoder struct {
	Reader
	file     string
	objects  []*Object
	errs     []Error
	warnings []Error
	// foreign are documents that are no Kubernetes objects, and do not begin as such.
	foreign []Error
}

// decode reads the objects of a text.
func (r Reader) decode(file string, text []byte) *decoder {
	d := &decoder{Reader: r, file: file}
	text, err := decodeText(text)
	if err != nil {
		d.errs = append(d.errs, Error{File: file, Message: err.Error()})
		return d
	}
	docs, line, err := splitDocuments(text)
	for _, doc := range docs {
		d.document(doc)
	}
	if err != nil {
		d.unreadable(text, Error{File: file, Line: line, Message: "is not JSON: " + err.Error()})
	}
	return d
}

func (d *decoder) document(doc *document) {
	if len(doc.text) > MaxObject && !doc.isList() {
		d.fail(doc, "", "", "has %.1f MiB; the API server takes objects of %d MiB at most", float64(len(doc.text))/(1<<20), MaxObject>>20)
		return
	}
	if doc.unseen {
		d.warn(Error{File: d.file, Line: doc.line, Message: "kubectl does not read what follows here, as no line \"---\" comes before it"})
	}
	text := doc.text
	var twice []Error
	if !doc.json {
		var ok bool
		if text, twice, ok = d.convert(doc); !ok {
			return
		}
	}
	before := len(d.objects)
	d.value(doc, "", text, head{}, 0)
	if !slices.ContainsFunc(d.objects[before:], func(o *Object) bool { return o.Value != nil }) {
		d.warnings = append(d.warnings, twice...)
	} else if len(twice) > 0 {
		d.objects, d.errs = d.objects[:before], append(d.errs, twice...)
	}
}

// convert returns a document of YAML as JSON, and the keys that are there twice. kubectl
// reads the last of them; which one was meant nobody can say.
func (d *decoder) convert(doc *document) (converted []byte, twice []Error, ok bool) {
	err := checkRepetition(doc.text)
	if err == nil {
		converted, err = yaml.YAMLToJSONStrict(doc.text)
	}
	if err == nil {
		return converted, nil, true
	}
	if converted, err = convertYAML(doc.text); err != nil {
		d.yamlError(doc, err)
		return nil, nil, false
	}
	if root := doc.root(); root != nil {
		for _, key := range findDuplicates(root, nil) {
			twice = append(twice, Error{File: d.file, Line: doc.line + key.line - 1, Message: fmt.Sprintf("is not YAML: key %q already set in map", key.name)})
		}
	}
	return converted, twice, true
}

func (d *decoder) warn(e Error) { d.warnings = append(d.warnings, e) }

// unreadable takes in what is wrong with a text that is no YAML or JSON. Without the word
// "kind" it is no Kubernetes object, even were it mended.
func (d *decoder) unreadable(text []byte, e Error) {
	if bytes.Contains(bytes.ToLower(text), []byte("kind")) {
		d.errs = append(d.errs, e)
	} else {
		d.foreign = append(d.foreign, e)
	}
}

// kindLine is the kind of a list in YAML; JSON is quickly read whatever it is.
var kindLine = regexp.MustCompile(`(?m)^kind: *["']?[A-Za-z]*List["']? *\r?$`)

func (doc *document) isList() bool {
	return bytes.Contains(doc.text[:min(len(doc.text), 4096)], []byte(`List"`)) && doc.json || kindLine.Match(doc.text)
}

// yamlLine is how the YAML parser begins an error.
var yamlLine = regexp.MustCompile(`line (\d+): `)

func (d *decoder) yamlError(doc *document, err error) {
	message := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: ")
	message = strings.Join(strings.Fields(strings.TrimPrefix(message, "unmarshal errors:")), " ")
	e := Error{File: d.file, Line: doc.line}
	if at := yamlLine.FindStringSubmatchIndex(message); at != nil {
		line, _ := strconv.Atoi(message[at[2]:at[3]])
		e.Line = doc.line + line - 1
		message = message[:at[0]] + message[at[1]:]
	}
	e.Message = "is not YAML: " + message
	if bytes.Contains(doc.text, []byte("{{")) {
		e.Message += "; is it a template? Render it first"
	}
	d.unreadable(doc.text, e)
}

// head is what every object begins with.
type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Namespace    string `json:"namespace"`
		Name         string `json:"name"`
		GenerateName string `json:"generateName"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// value reads an object or a list, as deep in lists as said. The items of a typed list
// may leave out what they are, which is what the list's own head says.
func (d *decoder) value(doc *document, within string, text []byte, list head, depth int) {
	if string(text) == "null" { // kubectl reads it as nothing
		return
	}
	var h head
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &h); err != nil {
		message := "is no Kubernetes object: " + strings.TrimSpace(typeField(err)+" "+typeError(err))
		if within == "" && typeField(err) == "" {
			d.foreign = append(d.foreign, Error{File: d.file, Line: doc.lineOf(""), Message: message})
		} else {
			d.fail(doc, within, typeField(err), "%s", message)
		}
		return
	}
	h.APIVersion, h.Kind = cmp.Or(h.APIVersion, list.APIVersion), cmp.Or(h.Kind, list.Kind)
	switch {
	case h.Kind == "" || h.APIVersion == "":
		d.incomplete(doc, within, text, h)
	case strings.HasSuffix(h.Kind, "List") && h.Items != nil && depth == maxNesting:
		d.fail(doc, within, "", "is a list within %d lists", maxNesting)
	case strings.HasSuffix(h.Kind, "List") && h.Items != nil:
		var items head
		if items.Kind = strings.TrimSuffix(h.Kind, "List"); items.Kind != "" { // the List of v1 holds anything
			items.APIVersion = h.APIVersion
		}
		for i, item := range h.Items {
			d.value(doc, within+"/items/"+strconv.Itoa(i), item, items, depth+1)
		}
	case h.Kind == "List" && h.APIVersion == "v1": // that of nothing
	default:
		d.object(doc, within, text, h)
	}
}

// incomplete takes in what has no kind or no API version. What has nothing of the sort is
// something else; what nearly has it is a mistake.
func (d *decoder) incomplete(doc *document, within string, text []byte, h head) {
	const message = "is no Kubernetes object: it has no apiVersion or no kind"
	chart := h.Kind == "" && strings.EqualFold(filepath.Base(d.file), "Chart.yaml")
	if within != "" || (h.Kind != "" || h.APIVersion != "") && !chart || resemblesObject(text) && !chart {
		d.fail(doc, within, "", message)
		return
	}
	d.foreign = append(d.foreign, Error{File: d.file, Line: doc.lineOf(""), Message: message})
}

// resemblesObject reports whether a key differs from those of an object by its case alone.
func resemblesObject(text []byte) bool {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return true
	}
	for key := range keys {
		if strings.EqualFold(key, "kind") || strings.EqualFold(key, "apiVersion") {
			return true
		}
	}
	return false
}

func (d *decoder) object(doc *document, within string, text []byte, h head) {
	o := &Object{File: d.file, APIVersion: h.APIVersion, Kind: h.Kind, Namespace: h.Metadata.Namespace, Name: h.Metadata.Name,
		document: doc, within: within}
	if o.Name == "" && h.Metadata.GenerateName != "" {
		o.Name, o.generated = h.Metadata.GenerateName, true
	}
	k, template, known := d.kindOf(h)
	switch {
	case !known:
		o.Context = d.context(h, text)
		d.objects = append(d.objects, o)
	case h.APIVersion != k.apiVersion:
		d.fail(doc, within, "/apiVersion", "%s: %s is not read in version %s, only in %s", o.ID(), h.Kind, h.APIVersion, k.apiVersion)
	case o.Name == "":
		d.fail(doc, within, "/metadata", "%s has no name", h.Kind)
	default:
		d.known(o, k, template, text)
	}
}

// context reads an object of a context kind; nil where it cannot be read.
func (d *decoder) context(h head, text []byte) client.Object {
	k, ok := contextKinds[h.Kind]
	if !ok || h.APIVersion != k.apiVersion || h.Metadata.Name == "" {
		return nil
	}
	value := k.empty()
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, value); err != nil {
		return nil
	}
	if value.GetNamespace() == "" {
		value.SetNamespace(d.Namespace)
	}
	return value
}

// known reads an object of a kind that policy depends on.
func (d *decoder) known(o *Object, k kind, template *TemplateKind, text []byte) {
	if o.Namespace == "" && k.namespaced {
		o.Namespace = d.Namespace
	}
	if !k.namespaced {
		o.Namespace = ""
	}
	if len(text) > MaxObject {
		d.wrong(o, "", fmt.Sprintf("has %.1f MiB; the API server takes objects of %d MiB at most", float64(len(text))/(1<<20), MaxObject>>20))
		return
	}
	var value client.Object
	if template == nil {
		value = d.typed(o, k, text)
	} else {
		value = d.templated(o, *template, text)
	}
	if value == nil {
		return
	}
	errs := validate(value, o.generated)
	for _, e := range errs {
		d.wrong(o, pointer(e.Field), e.ErrorBody())
	}
	if len(errs) > 0 {
		return
	}
	value.SetNamespace(o.Namespace)
	value.SetName(o.Name)
	defaulted(value)
	o.Value = value
	d.objects = append(d.objects, o)
}

// typed decodes an object strictly, as the API server does. What old versions wrote and new
// ones do not know is left out with a warning.
func (d *decoder) typed(o *Object, k kind, text []byte) client.Object {
	value := k.empty()
	strict, err := kjson.UnmarshalStrict(text, value)
	if err != nil {
		d.wrong(o, typeField(err), typeError(err))
		return nil
	}
	sound := true
	for _, e := range strict {
		field := ""
		if f := kjson.FieldError(nil); errors.As(e, &f) {
			field = pointer(f.FieldPath())
		}
		if slices.Contains(formerFields, field) {
			d.warn(Error{File: o.File, Line: o.Line(field), Object: o.ID(), Field: field, Message: "is not known any more, and left out; old clusters wrote it"})
			continue
		}
		sound = false
		what, _, _ := strings.Cut(e.Error(), ` "`)
		d.wrong(o, field, what)
	}
	if !sound {
		return nil
	}
	return value
}

// formerFields are what old API servers wrote into objects, and new ones refuse.
var formerFields = []string{"/status", "/metadata/clusterName", "/spec/template/metadata/clusterName"}

func (d *decoder) wrong(o *Object, field, message string) {
	d.errs = append(d.errs, Error{File: d.file, Line: o.Line(field), Object: o.ID(), Field: field, Message: message})
}

func (d *decoder) fail(doc *document, within, field, format string, args ...any) {
	d.errs = append(d.errs, Error{File: d.file, Line: doc.lineOf(within + field), Message: fmt.Sprintf(format, args...)})
}

// pointer is a path such as spec.ingress[0].from as a JSON pointer.
func pointer(path string) string {
	if path == "" {
		return ""
	}
	path = strings.NewReplacer("[", ".", "]", "").Replace(path)
	return "/" + strings.ReplaceAll(path, ".", "/")
}

// typeField is the field at fault of an error of the JSON decoder.
func typeField(err error) string {
	if e := (*json.UnmarshalTypeError)(nil); errors.As(err, &e) {
		return pointer(e.Field)
	}
	return ""
}

// typeError is an error of the JSON decoder without the words of Go.
func typeError(err error) string {
	if e := (*json.UnmarshalTypeError)(nil); errors.As(err, &e) && e.Value != "" {
		article := "a"
		if strings.ContainsRune("aeiou", rune(e.Value[0])) { // such as "array"
			article = "an"
		}
		return fmt.Sprintf("is %s %s where %s is wanted", article, e.Value, wanted(e.Type.Kind().String()))
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

func wanted(goKind string) string {
	switch goKind {
	case "struct", "map", "ptr":
		return "an object"
	case "slice", "array":
		return "a list"
	case "bool":
		return "true or false"
	case "string":
		return "a text"
	default:
		return "a number"
	}
}
