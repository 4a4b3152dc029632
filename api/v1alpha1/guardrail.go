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
// +kubebuilder:printcolumn:name="Violations",type=integer,JSONPath=".status.audit.violations"
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
// +kubebuilder:validation:Enum=Deny;Warn;Audit
type Enforcement string

const (
	// EnforceDeny refuses the request.
	EnforceDeny Enforcement = "Deny"
	// EnforceWarn admits the request with a warning to its sender.
	EnforceWarn Enforcement = "Warn"
	// EnforceAudit admits the request and tells its sender nothing: the violation is in
	// the metrics, in the log, and in the results of the audit of what exists.
	EnforceAudit Enforcement = "Audit"
)

// Kind is a kind of objects whose changes are judged.
//
// +kubebuilder:validation:Enum=NetworkPolicy;ClusterNetworkPolicy;TierRole;Namespace;Pod
type Kind string

// Operation is a kind of request, named as in admission.k8s.io/v1.
//
// +kubebuilder:validation:Enum=CREATE;UPDATE;DELETE
type Operation string

// GuardrailSpec is a rule: one of the library, one of a bundle, or one of your own.
//
// +kubebuilder:validation:XValidation:rule="[has(self.library), has(self.rego), has(self.bundle)].filter(x, x).size() == 1",message="exactly one of library, bundle and rego must be set"
// +kubebuilder:validation:XValidation:rule="has(self.rego) || !has(self.tests)",message="tests are those of rego"
type GuardrailSpec struct {
	// Library names a guardrail that comes with tierwall, such as data-tier-closed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Library string `json:"library,omitempty"`

	// Bundle names a guardrail of the bundle that the webhook is configured with, such as
	// no-telnet for its package tierwall.guardrails.no_telnet.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Bundle string `json:"bundle,omitempty"`

	// Rego is the source of a guardrail of your own: one package below
	// tierwall.guardrails, with rules "deny contains msg" and "warn contains msg".
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=262144
	Rego string `json:"rego,omitempty"`

	// Tests is the source of tests of Rego, as "opa test" runs them. A Guardrail whose tests
	// fail is refused.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=262144
	Tests string `json:"tests,omitempty"`

	// Enforcement says what a violation does: Deny refuses the request, Warn admits it with
	// a warning, Audit only records it in log, status and metrics. What the guardrail itself calls
	// a warning never refuses.
	// +optional
	// +kubebuilder:default=Deny
	Enforcement Enforcement `json:"enforcement,omitempty"`

	// Namespaces limits the guardrail to objects in these namespaces, by name. Empty means
	// every namespace, and objects of the cluster.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1000
	Namespaces []string `json:"namespaces,omitempty"`

	// Kinds limits the guardrail to objects of these kinds. Empty means every kind. New
	// pods are refused only where Pod is named, and warned of otherwise.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=5
	Kinds []Kind `json:"kinds,omitempty"`

	// Operations limits the guardrail to these requests. Empty means every request. What
	// exists is audited as if it were created.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=3
	Operations []Operation `json:"operations,omitempty"`

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

	// ActiveGeneration is the generation of the Guardrail that is in force; 0 is none.
	// +optional
	ActiveGeneration int64 `json:"activeGeneration,omitempty"`

	// BundleRevision is the revision of the bundle that the guardrail in force is from. An
	// older one never comes into force any more.
	// +optional
	BundleRevision int64 `json:"bundleRevision,omitempty"`

	// Audit is what the guardrail says of what exists.
	// +optional
	Audit *Audit `json:"audit,omitempty"`
}

// Audit is what a guardrail says of what exists.
type Audit struct {
	// Generation is that of the Guardrail which was asked.
	Generation int64 `json:"generation"`
	// Violations is how many there are.
	Violations int32 `json:"violations"`
	// Results are the first of them.
	// +optional
	// +listType=atomic
	Results []AuditResult `json:"results,omitempty"`
}

// AuditResult is a violation by an object that exists.
type AuditResult struct {
	// Kind, Namespace and Name are the object's. A Namespace stands for what is open in
	// it because no policy says otherwise.
	Kind string `json:"kind"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Path is the field at fault as a JSON pointer (RFC 6901), where there is one.
	// +optional
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
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
