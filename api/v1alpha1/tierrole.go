package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// RoleLabel is the label that shows a pod's tier role. It is computed from
// TierRoles; a value that somebody else writes counts for nothing.
const RoleLabel = "tierwall.io/tier-role"

// TierRole says which pods hold a tier role, such as frontend, backend or data.
//
// A pod holds the role of the TierRole that binds it. Where several do, the
// most specific wins: one that names service accounts before one with a pod
// selector alone, and that before one with namespaces alone; among equals the
// first by name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=tr
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Role",type=string,JSONPath=".spec.role"
// +kubebuilder:printcolumn:name="Namespaces",type=string,JSONPath=".spec.namespaces"
// +kubebuilder:printcolumn:name="ServiceAccounts",type=string,JSONPath=".spec.serviceAccounts"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
type TierRole struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec says which pods hold which role.
	// +required
	Spec TierRoleSpec `json:"spec"`
	// Status is what was observed of the TierRole.
	// +optional
	Status TierRoleStatus `json:"status,omitempty"`
}

// TierRoleSpec says which pods hold which role. A pod is bound when its
// namespace, its service account and its labels all match.
type TierRoleSpec struct {
	// Role is the role that bound pods hold: the value of their tierwall.io/tier-role label.
	// +required
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	Role string `json:"role"`

	// Namespaces are the names of the namespaces whose pods are bound.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces"`

	// ServiceAccounts are the names of the service accounts whose pods are bound, in any of
	// the namespaces. A pod's service account cannot change after creation. Empty binds
	// pods of every service account.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`

	// PodSelector binds pods by their labels, for applications that have no service accounts
	// of their own. Labels that would change a pod's role are frozen once it exists.
	// Absent binds pods of any labels. It may not mention tierwall.io/tier-role itself.
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`
}

// TierRoleStatus is what was observed of a TierRole.
type TierRoleStatus struct {
	// Conditions report whether the TierRole is understood (Ready) and whether it disagrees
	// with an equally specific one about some pod (Conflicting).
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// TierRoleList is a list of TierRoles.
//
// +kubebuilder:object:root=true
type TierRoleList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TierRole `json:"items"`
}
