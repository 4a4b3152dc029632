package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// AuditedObject identifies the object of a finding.
type AuditedObject struct {
	APIVersion, Kind, Namespace, Name string
	UID                               types.UID
}

// subject is an object that is audited.
type subject struct {
	AuditedObject
	value any
	// apply adds the object to a snapshot. It is nil for objects that open nothing by themselves.
	apply func(*compile.Snapshot)
}

func (s subject) marshalObject() (json.RawMessage, error) {
	text, err := json.Marshal(s.value)
	if err != nil {
		return nil, fmt.Errorf("write %s %s/%s as JSON: %w", s.Kind, s.Namespace, s.Name, err)
	}
	return text, nil
}

// auditSubjects returns the objects to audit in order of precedence, so that later objects close nothing that
// earlier ones open. The last are the namespaces, for their default actions.
func auditSubjects(w Inventory) []subject {
	var out []subject
	for _, tr := range w.Snapshot.TierRoles {
		out = append(out, tierRoleSubject(tr))
	}
	admin, baseline := clusterNetworkPolicySubjects(w.ClusterNetworkPolicies)
	out = append(out, admin...)
	for _, np := range slices.SortedFunc(slices.Values(w.NetworkPolicies), compareNames[*networkingv1.NetworkPolicy]) {
		if !slices.Contains(w.Snapshot.Defaults.Exempt, np.Namespace) {
			out = append(out, networkPolicySubject(np))
		}
	}
	out = append(out, baseline...)
	for _, n := range w.Snapshot.Namespaces {
		if verdict := w.Snapshot.Defaults.For(n.Name); verdict != policy.Deny && !slices.Contains(w.Snapshot.Defaults.Exempt, n.Name) {
			out = append(out, namespaceSubject(n, verdict))
		}
	}
	return out
}

func compareNames[T metav1.Object](a, b T) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}

func clusterNetworkPolicySubjects(all []*policyv1alpha2.ClusterNetworkPolicy) (admin, baseline []subject) {
	inOrder := slices.SortedFunc(slices.Values(all), func(a, b *policyv1alpha2.ClusterNetworkPolicy) int {
		return cmp.Or(cmp.Compare(a.Spec.Priority, b.Spec.Priority), compareNames(a, b))
	})
	for _, p := range inOrder {
		s := clusterNetworkPolicySubject(p)
		if p.Spec.Tier == policyv1alpha2.BaselineTier {
			baseline = append(baseline, s)
		} else {
			admin = append(admin, s)
		}
	}
	return admin, baseline
}

func clusterNetworkPolicySubject(p *policyv1alpha2.ClusterNetworkPolicy) subject {
	whole := *p
	whole.APIVersion, whole.Kind = policyv1alpha2.GroupVersion.String(), compile.ClusterNetworkPolicyKind
	return subject{AuditedObject{whole.APIVersion, whole.Kind, "", p.Name, p.UID}, &whole, func(s *compile.Snapshot) {
		s.ClusterNetworkPolicies = append(slices.Clip(s.ClusterNetworkPolicies), p)
	}}
}

func networkPolicySubject(p *networkingv1.NetworkPolicy) subject {
	whole := *p
	whole.APIVersion, whole.Kind = networkingv1.SchemeGroupVersion.String(), compile.NetworkPolicyKind
	return subject{AuditedObject{whole.APIVersion, whole.Kind, p.Namespace, p.Name, p.UID}, &whole, func(s *compile.Snapshot) {
		s.NetworkPolicies = append(slices.Clip(s.NetworkPolicies), p)
	}}
}

func tierRoleSubject(tr *v1alpha1.TierRole) subject {
	whole := *tr
	whole.APIVersion, whole.Kind = v1alpha1.GroupVersion.String(), "TierRole"
	return subject{AuditedObject{whole.APIVersion, whole.Kind, "", tr.Name, tr.UID}, &whole, nil}
}

func namespaceSubject(n *compile.Namespace, verdict policy.Verdict) subject {
	whole := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}}
	return subject{AuditedObject{"v1", "Namespace", "", n.Name, ""}, whole, func(s *compile.Snapshot) {
		s.Defaults.Namespaces = maps.Clone(s.Defaults.Namespaces)
		s.Defaults.Namespaces[n.Name] = verdict
	}}
}

// groupVersion returns the API group and version of an object.
func (o AuditedObject) groupVersion() (group, version string) {
	gvk := schema.FromAPIVersionAndKind(o.APIVersion, o.Kind)
	return gvk.Group, gvk.Version
}

// ownNamespace returns the namespace of the object, or its name if it is a namespace.
func (o AuditedObject) ownNamespace() string {
	if o.Kind == "Namespace" {
		return o.Name
	}
	return o.Namespace
}
