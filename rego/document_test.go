package rego

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// fromJSON is the input as reading its JSON form gives it.
func fromJSON(t *testing.T, in Input) ast.Value {
	t.Helper()
	text, err := json.Marshal(struct {
		Schema string `json:"schema"`
		Input
	}{InputSchema, in})
	if err != nil {
		t.Fatal(err)
	}
	value, err := valueOf(text)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// fill gives everything within a value another value, which is not zero.
func fill(v reflect.Value, number *int) {
	*number++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("<text %d>", *number))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(int64(*number))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), number)
		}
	case reflect.Slice:
		if v.Type() == raw {
			v.SetBytes(fmt.Appendf(nil, `{"number": %d.50, "list": [null, 1e3]}`, *number))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), number)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, number)
			fill(value, number)
			v.SetMapIndex(key, value)
		}
	default:
		panic(v.Type().String())
	}
}

func TestADocumentIsWhatItsJSONFormSays(t *testing.T) {
	var full Input
	number := 0
	fill(reflect.ValueOf(&full).Elem(), &number)
	shared := example
	shared.Effect.Removed = append(shared.Effect.Removed, shared.Effect.Added...)
	broken := example
	broken.Request.UserInfo.Username = "a\xff\xfe<b>"
	changed := example
	changed.OldObject = json.RawMessage(`{"kind": "NetworkPolicy", "spec": null, "metadata": {"name": "open-data", "annotations": {}}, "spec": {"a": 1.0}}`)
	changed.Object = json.RawMessage(`{"metadata":{"name":"open-data"}, "kind": "NetworkPolicy", "status": 7, "spec": {"a": 1.0}}`)
	list := example
	list.Object, list.OldObject = json.RawMessage(` [{"a": 1}]`), json.RawMessage(`null`)
	bare := Input{Namespace: Namespace{Labels: map[string]string{}}, Request: Request{UserInfo: UserInfo{Groups: []string{}}}}
	for name, in := range map[string]Input{"everything": full, "example": example, "nothing": bare, "changed": changed, "no object": list, "nothing opened": harmless(), "rows that share labels": shared, "no UTF-8": broken} {
		got, err := in.toDocument()
		if err != nil {
			t.Fatal(err)
		}
		if want := fromJSON(t, in); got.Compare(want) != 0 || got.Hash() != want.Hash() {
			t.Errorf("%s:\n%v, want\n%v", name, got, want)
		}
	}
}

func TestAnObjectThatIsNoJSONIsNotJudged(t *testing.T) {
	in := example
	in.OldObject = json.RawMessage(`{"kind":`)
	if _, err := in.toDocument(); err == nil {
		t.Error("there is a document")
	}
}
