// Package manifest reads Kubernetes objects from files: YAML and JSON, several
// documents a file, lists. It reads the kinds that policy depends on strictly, as
// the API server does, and names file, line, object and field of what is wrong.
package manifest

import (
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Object is one object of a file.
type Object struct {
	// File is as it was found; "-" is standard input.
	File                              string
	APIVersion, Kind, Namespace, Name string
	// Value is the object with the API server's defaults; nil of a kind that policy
	// does not depend on.
	Value client.Object
	// Context is the object where policy does not depend on it, but answers about connections do,
	// such as a Service; else nil.
	Context client.Object

	// generated reports whether Name is only how the API server's name will begin.
	generated bool
	document  *document
	// within is where the object is in its document, as a JSON pointer: that of an item of a list.
	within string
}

// ID is the kind and the name, such as "NetworkPolicy prod/backend".
func (o *Object) ID() string { return ID(o.Kind, o.Namespace, o.Name) }

// ID is an object's kind and name, such as "NetworkPolicy prod/backend".
func ID(kind, namespace, name string) string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return strings.TrimSpace(kind + " " + name)
}

// Line is the line of the file, from 1 on, that a field is on, given as a JSON
// pointer (RFC 6901) into the object: of what there is, the one nearest to it.
func (o *Object) Line(field string) int { return o.document.lineOf(o.within + field) }

// JSON is the object as the API server would hand it to a webhook.
func (o *Object) JSON() (json.RawMessage, error) {
	text, err := json.Marshal(o.Value)
	if err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", o.ID(), err)
	}
	return text, nil
}

// Error is what is wrong with a file, or with an object in it.
type Error struct {
	File string `json:"file"`
	// Line is from 1 on; 0 is not known.
	Line int `json:"line,omitempty"`
	// Object is its kind and name, and Field a JSON pointer into it; both may be empty.
	Object  string `json:"object,omitempty"`
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	// AlsoIn is the file that has the object first, where it is there twice.
	AlsoIn string `json:"alsoIn,omitempty"`
}

func (e Error) Error() string {
	place := e.File
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if about := strings.TrimSpace(e.Object + " " + e.Field); about != "" {
		place += ": " + about
	}
	return place + ": " + e.Message
}

// IsPolicy reports whether an ID, as Object.ID gives it, is a policy's.
func IsPolicy(id string) bool {
	return strings.HasPrefix(id, "NetworkPolicy ") || strings.HasPrefix(id, "ClusterNetworkPolicy ")
}
