package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// MaxObject is how many bytes an object may have: the API server takes no more
// (k8s.io/apiserver, MaxRequestBodyBytes).
const MaxObject = 3 << 20

// decoder reads the objects of one file.
type decoder struct {
	Reader
	file    string
	objects []*Object
	errs    []Error
}

func (r Reader) objects(file string, text []byte) ([]*Object, []Error) {
	d := &decoder{Reader: r, file: file}
	docs, line, err := documents(text)
	for _, doc := range docs {
		d.document(doc)
	}
	if err != nil {
		d.errs = append(d.errs, Error{File: file, Line: line, Message: "is not JSON: " + err.Error()})
	}
	if len(docs) == 0 && err == nil {
		d.errs = append(d.errs, Error{File: file, Message: "there is no object in it"})
	}
	return d.objects, d.errs
}

func (d *decoder) document(doc *document) {
	if len(doc.text) > MaxObject && !doc.isList() {
		d.fail(doc, "", "", "has %.1f MiB; the API server takes objects of %d MiB at most", float64(len(doc.text))/(1<<20), MaxObject>>20)
		return
	}
	text := doc.text
	if !doc.json {
		converted, err := yaml.YAMLToJSONStrict(text)
		if err != nil {
			d.yamlError(doc, err)
			return
		}
		text = converted
	}
	d.value(doc, "", text, "", "")
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
	d.errs = append(d.errs, e)
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

// value reads an object or a list, at a place in the document. The items of a typed list
// may leave out what they are.
func (d *decoder) value(doc *document, within string, text []byte, apiVersion, kindName string) {
	var h head
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &h); err != nil {
		d.fail(doc, within, typeField(err), "is no Kubernetes object: %s", strings.TrimSpace(typeField(err)+" "+typeError(err)))
		return
	}
	if h.APIVersion == "" {
		h.APIVersion = apiVersion
	}
	if h.Kind == "" {
		h.Kind = kindName
	}
	switch {
	case h.Kind == "" || h.APIVersion == "":
		d.fail(doc, within, "", "is no Kubernetes object: it has no apiVersion or no kind")
	case strings.HasSuffix(h.Kind, "List") && h.Items != nil:
		itemVersion, itemKind := h.APIVersion, strings.TrimSuffix(h.Kind, "List")
		if itemKind == "" { // the List of v1 holds anything
			itemVersion = ""
		}
		for i, item := range h.Items {
			d.value(doc, within+"/items/"+strconv.Itoa(i), item, itemVersion, itemKind)
		}
	default:
		d.object(doc, within, text, h)
	}
}

func (d *decoder) object(doc *document, within string, text []byte, h head) {
	o := &Object{File: d.file, APIVersion: h.APIVersion, Kind: h.Kind, Namespace: h.Metadata.Namespace, Name: h.Metadata.Name,
		document: doc, within: within}
	if o.Name == "" {
		o.Name = h.Metadata.GenerateName
	}
	k, known := kinds[h.Kind]
	switch {
	case !known || !k.of(h.APIVersion):
		o.Context = d.context(h, text)
		d.objects = append(d.objects, o)
	case h.APIVersion != k.apiVersion:
		d.fail(doc, within, "/apiVersion", "%s: %s is not read in version %s, only in %s", o.ID(), h.Kind, h.APIVersion, k.apiVersion)
	case o.Name == "":
		d.fail(doc, within, "/metadata", "%s has no name", h.Kind)
	default:
		d.known(o, k, text)
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
func (d *decoder) known(o *Object, k kind, text []byte) {
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
	value := k.empty()
	strict, err := kjson.UnmarshalStrict(text, value)
	if err != nil {
		d.wrong(o, typeField(err), typeError(err))
		return
	}
	for _, e := range strict {
		field := ""
		if f := kjson.FieldError(nil); errors.As(e, &f) {
			field = pointer(f.FieldPath())
		}
		what, _, _ := strings.Cut(e.Error(), ` "`)
		d.wrong(o, field, what)
	}
	if len(strict) > 0 {
		return
	}
	value.SetNamespace(o.Namespace)
	value.SetName(o.Name)
	defaulted(value)
	o.Value = value
	d.objects = append(d.objects, o)
}

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
	if e := (*json.UnmarshalTypeError)(nil); errors.As(err, &e) {
		return fmt.Sprintf("is a %s where %s is wanted", e.Value, wanted(e.Type.Kind().String()))
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
