// Package v1alpha1 is the API group tierwall.io/v1alpha1: TierRole, which pods
// hold which tier role, and Guardrail, a rule in Rego about policies. Policies
// themselves are the standard Kubernetes objects.
//
// +kubebuilder:object:generate=true
// +groupName=tierwall.io
package v1alpha1
