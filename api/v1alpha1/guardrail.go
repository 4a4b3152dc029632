package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Guardrail is a rule in Rego about policies: what may never become reachable.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=gr
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Enforcement",type=string,JSONPath=".spec.enforcement"
// +kubebuilder:printcolumn:name="Library",type=string,JSONPath=".spec.library"
// +kubebuilder:printcolumn:name="Active",type=string,JSONPath=".status.conditions[?(@.type=='Active')].status"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
type Guardrail struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the rule.
	// +required
	Spec GuardrailSpec `json:"spec"`
	// Status is what was observed of the Guardrail.
	// +optional
	Status GuardrailStatus `json:"status,omitempty"`
}

// Enforcement says what a violation of a guardrail does.
//
// +kubebuilder:validation:Enum=Deny;Warn
type Enforcement string

const (
	// EnforceDeny refuses the request.
	EnforceDeny Enforcement = "Deny"
	// EnforceWarn admits the request with a warning to its sender.
	EnforceWarn Enforcement = "Warn"
)

// GuardrailSpec is a rule, either one of the library or one of your own.
//
// +kubebuilder:validation:XValidation:rule="has(self.library) != has(self.rego)",message="exactly one of library and rego must be set"
type GuardrailSpec struct {
	// Library names a guardrail that comes with tierwall, such as data-tier-closed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Library string `json:"library,omitempty"`

	// Rego is the source of a guardrail of your own: one package below
	// tierwall.guardrails, with rules "deny contains msg" and "warn contains msg".
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=262144
	Rego string `json:"rego,omitempty"`

	// Enforcement says what a violation does: Deny refuses the request, Warn only tells
	// its sender. What the guardrail itself calls a warning always only tells.
	// +optional
	// +kubebuilder:default=Deny
	Enforcement Enforcement `json:"enforcement,omitempty"`

	// Namespaces limits the guardrail to objects in these namespaces, by name. Empty means
	// every namespace, and objects of the cluster.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1000
	Namespaces []string `json:"namespaces,omitempty"`

	// Parameters are handed to the Rego as input.parameters.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:Schemaless
	Parameters *apiextensionsv1.JSON `json:"parameters,omitempty"`
}

// GuardrailStatus is what was observed of a Guardrail.
type GuardrailStatus struct {
	// Conditions report whether the guardrail is in force (Active).
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// GuardrailList is a list of Guardrails.
//
// +kubebuilder:object:root=true
type GuardrailList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Guardrail `json:"items"`
}
