package rego

import (
	"encoding/json"

	"github.com/tierwall/tierwall/policy/effect"
)

// InputSchema is the version of the input document.
const InputSchema = "tierwall.io/guardrail/v1"

// Source says who asks for a judgement.
type Source string

const (
	// Admission is a request to the API server.
	Admission Source = "admission"
	// Audit is a check of what the cluster already holds.
	Audit Source = "audit"
	// CLI is a check of files, outside of a cluster.
	CLI Source = "cli"
)

// Input is what guardrails judge: the input document but for its parameters,
// which each guardrail gets from its own Guardrail object.
type Input struct {
	Source  Source  `json:"source"`
	Request Request `json:"request"`
	// Object is the object as JSON; empty on deletion. OldObject is what it was; empty on creation.
	Object    json.RawMessage `json:"object"`
	OldObject json.RawMessage `json:"oldObject"`
	// Namespace is the object's own; its name is empty for objects of the cluster.
	Namespace Namespace     `json:"namespace"`
	Effect    effect.Effect `json:"effect"`
}

// Request is what guardrails see of an admission request; fields are named as
// in admission.k8s.io/v1.
type Request struct {
	UID       string           `json:"uid,omitempty"`
	Operation string           `json:"operation"`
	Kind      GroupVersionKind `json:"kind"`
	Namespace string           `json:"namespace,omitempty"`
	Name      string           `json:"name"`
	DryRun    bool             `json:"dryRun"`
	UserInfo  UserInfo         `json:"userInfo"`
}

// GroupVersionKind is the kind of a request's object.
type GroupVersionKind struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

// UserInfo is who sent a request.
type UserInfo struct {
	Username string   `json:"username"`
	Groups   []string `json:"groups"`
}

// Namespace is the namespace of the object that is judged.
type Namespace struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
}
