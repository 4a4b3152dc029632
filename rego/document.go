package rego

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// toDocument is the input as OPA's values, without parameters. Lists and objects are never null.
func (in Input) toDocument() (ast.Object, error) {
	if in.Namespace.Labels == nil {
		in.Namespace.Labels = map[string]string{}
	}
	if in.Request.UserInfo.Groups == nil {
		in.Request.UserInfo.Groups = []string{}
	}
	c := converter{maps: map[uintptr]*ast.Term{}, parts: map[string]*ast.Term{}}
	document, err := c.structObject(reflect.ValueOf(in))
	if err != nil {
		return nil, err
	}
	document.Insert(ast.InternedTerm("schema"), ast.InternedTerm(InputSchema))
	return document, nil
}

// converter makes OPA's values of Go's: the same that reading their JSON form would give, for a part of
// the time.
type converter struct {
	// maps are those that were converted already: the rows of an effect share their labels.
	maps map[uintptr]*ast.Term
	// parts are those of objects that were read already, by their JSON: most of an object is what it was.
	parts map[string]*ast.Term
}

var raw = reflect.TypeFor[json.RawMessage]()

func (c *converter) toTerm(v reflect.Value) (*ast.Term, error) {
	if v.Type() == raw {
		return c.rawJSON(v.Interface().(json.RawMessage))
	}
	switch v.Kind() {
	case reflect.String:
		return stringTerm(v.String()), nil
	case reflect.Bool:
		return ast.InternedTerm(v.Bool()), nil
	case reflect.Int:
		return ast.InternedTerm(v.Int()), nil
	case reflect.Struct:
		o, err := c.structObject(v)
		return ast.NewTerm(o), err
	case reflect.Slice:
		return c.listTerm(v)
	case reflect.Map:
		return c.objectTerm(v)
	default:
		return nil, fmt.Errorf("a %s is no part of the input", v.Type())
	}
}

// stringTerm is a string; as in JSON, what is no UTF-8 is replaced.
func stringTerm(s string) *ast.Term {
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	return ast.InternedTerm(s)
}

// rawJSON reads an object part by part, and anything else as a whole.
func (c *converter) rawJSON(text json.RawMessage) (*ast.Term, error) {
	if text == nil {
		return ast.InternedNullTerm, nil
	}
	var parts map[string]json.RawMessage
	if json.Unmarshal(text, &parts) != nil || parts == nil {
		value, err := valueOf(text)
		return ast.NewTerm(value), err
	}
	pairs := make([][2]*ast.Term, 0, len(parts))
	for name, part := range parts {
		known := c.parts[string(part)]
		if known == nil {
			value, err := valueOf(part)
			if err != nil {
				return nil, err
			}
			known = ast.NewTerm(value)
			c.parts[string(part)] = known
		}
		pairs = append(pairs, [2]*ast.Term{ast.InternedTerm(name), known})
	}
	return ast.ObjectTerm(pairs...), nil
}

func (c *converter) listTerm(v reflect.Value) (*ast.Term, error) {
	if v.IsNil() {
		return ast.InternedNullTerm, nil
	}
	elements := make([]*ast.Term, v.Len())
	for i := range elements {
		var err error
		if elements[i], err = c.toTerm(v.Index(i)); err != nil {
			return nil, err
		}
	}
	return ast.ArrayTerm(elements...), nil
}

func (c *converter) objectTerm(v reflect.Value) (*ast.Term, error) {
	if v.IsNil() {
		return ast.InternedNullTerm, nil
	}
	if known := c.maps[v.Pointer()]; known != nil {
		return known, nil
	}
	pairs := make([][2]*ast.Term, 0, v.Len())
	for entries := v.MapRange(); entries.Next(); {
		value, err := c.toTerm(entries.Value())
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, [2]*ast.Term{stringTerm(entries.Key().String()), value})
	}
	out := ast.ObjectTerm(pairs...)
	c.maps[v.Pointer()] = out
	return out, nil
}

// structObject is a struct, by the tags of its fields.
func (c *converter) structObject(v reflect.Value) (ast.Object, error) {
	properties := propertiesOf(v.Type())
	pairs := make([][2]*ast.Term, 0, len(properties)+1)
	for i, f := range properties {
		value := v.Field(i)
		if f.mayBeOmitted && (value.IsZero() || value.Kind() == reflect.Slice && value.Len() == 0) {
			continue
		}
		term, err := c.toTerm(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		pairs = append(pairs, [2]*ast.Term{f.name, term})
	}
	return ast.NewObject(pairs...), nil
}

// property is how a struct's field is called in JSON.
type property struct {
	name         *ast.Term
	mayBeOmitted bool
}

var knownProperties sync.Map // of []property, by type

func propertiesOf(t reflect.Type) []property {
	if known, ok := knownProperties.Load(t); ok {
		return known.([]property)
	}
	out := make([]property, t.NumField())
	for i := range out {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		out[i] = property{name: ast.StringTerm(name), mayBeOmitted: options == "omitempty"}
	}
	knownProperties.Store(t, out)
	return out
}

// valueOf reads JSON as a value of OPA's, numbers with all their digits.
func valueOf(text json.RawMessage) (ast.Value, error) {
	return ast.ValueFromReader(bytes.NewReader(text))
}
