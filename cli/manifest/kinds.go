package manifest

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// kind is one that policy depends on.
type kind struct {
	// apiVersion is the only one that is read.
	apiVersion string
	namespaced bool
	empty      func() client.Object
}

// contextKinds are those that no policy depends on, but that say where connections lead and how many pods there are.
// They are read as far as they can be.
var contextKinds = map[string]kind{
	"Service":       {"v1", true, func() client.Object { return &corev1.Service{} }},
	"Endpoints":     {"v1", true, func() client.Object { return &corev1.Endpoints{} }}, //nolint:staticcheck // older dumps have them
	"EndpointSlice": {"discovery.k8s.io/v1", true, func() client.Object { return &discoveryv1.EndpointSlice{} }},
	"HorizontalPodAutoscaler": {"autoscaling/v2", true,
		func() client.Object { return &autoscalingv2.HorizontalPodAutoscaler{} }},
}

// kinds are those that policy depends on, by name.
var kinds = map[string]kind{
	"Namespace":             {"v1", false, func() client.Object { return &corev1.Namespace{} }},
	"Node":                  {"v1", false, func() client.Object { return &corev1.Node{} }},
	"Pod":                   {"v1", true, func() client.Object { return &corev1.Pod{} }},
	"ReplicationController": {"v1", true, func() client.Object { return &corev1.ReplicationController{} }},
	"Deployment":            {"apps/v1", true, func() client.Object { return &appsv1.Deployment{} }},
	"ReplicaSet":            {"apps/v1", true, func() client.Object { return &appsv1.ReplicaSet{} }},
	"StatefulSet":           {"apps/v1", true, func() client.Object { return &appsv1.StatefulSet{} }},
	"DaemonSet":             {"apps/v1", true, func() client.Object { return &appsv1.DaemonSet{} }},
	"Job":                   {"batch/v1", true, func() client.Object { return &batchv1.Job{} }},
	"CronJob":               {"batch/v1", true, func() client.Object { return &batchv1.CronJob{} }},
	"NetworkPolicy":         {"networking.k8s.io/v1", true, func() client.Object { return &networkingv1.NetworkPolicy{} }},
	"ClusterNetworkPolicy": {"policy.networking.k8s.io/v1alpha2", false,
		func() client.Object { return &policyv1alpha2.ClusterNetworkPolicy{} }},
	"TierRole":  {"tierwall.io/v1alpha1", false, func() client.Object { return &v1alpha1.TierRole{} }},
	"Guardrail": {"tierwall.io/v1alpha1", false, func() client.Object { return &v1alpha1.Guardrail{} }},
}

// kindOf returns the kind of an object, if policy depends on it, and how its pods are
// found where no Go type says so.
func (r Reader) kindOf(h head) (kind, *TemplateKind, bool) {
	if t, ok := r.templateKind(groupOf(h.APIVersion), h.Kind); ok {
		return kind{apiVersion: h.APIVersion, namespaced: true}, &t, true
	}
	k, known := kinds[h.Kind]
	return k, nil, known && k.of(h.APIVersion)
}

// of reports whether the object is of the kind, in whatever version: one that is not
// read is not to be passed over as if it were of another group.
func (k kind) of(apiVersion string) bool {
	group := groupOf(apiVersion)
	return group == groupOf(k.apiVersion) || group == "extensions"
}

func groupOf(apiVersion string) string {
	if group, _, ok := strings.Cut(apiVersion, "/"); ok {
		return group
	}
	return ""
}

// defaulted sets what the API server sets in policies (networking.k8s.io/v1) and in Guardrails.
func defaulted(o client.Object) {
	switch o := o.(type) {
	case *networkingv1.NetworkPolicy:
		if len(o.Spec.PolicyTypes) == 0 {
			o.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
			if len(o.Spec.Egress) > 0 {
				o.Spec.PolicyTypes = append(o.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
			}
		}
		for i := range o.Spec.Ingress {
			defaultPorts(o.Spec.Ingress[i].Ports)
		}
		for i := range o.Spec.Egress {
			defaultPorts(o.Spec.Egress[i].Ports)
		}
	case *v1alpha1.Guardrail:
		if o.Spec.Enforcement == "" {
			o.Spec.Enforcement = v1alpha1.EnforceDeny
		}
	}
}

func defaultPorts(ports []networkingv1.NetworkPolicyPort) {
	tcp := corev1.ProtocolTCP
	for i := range ports {
		if ports[i].Protocol == nil {
			ports[i].Protocol = &tcp
		}
	}
}
