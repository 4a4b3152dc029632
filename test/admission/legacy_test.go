//go:build admission

package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// legacy is what was there before tierwall: data of namespace legacy lets in whoever has
// the label partner=yes, a namespace or a pod, and one namespace has it.
func legacy() []client.Object {
	partner := map[string]string{"partner": "yes"}
	everywhere := networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{MatchLabels: partner}}
	namespace := networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{MatchLabels: partner}}
	friend := namespaceObject("friend")
	friend.Labels = partner
	return []client.Object{
		friend, namespaceObject("stranger"),
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "stranger", Name: "default"}},
		&v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: "legacy-data"}, Spec: v1alpha1.TierRoleSpec{
			Role: "data", Namespaces: []string{"legacy"}, ServiceAccounts: []string{"postgres"}}},
		toTier("legacy", "partners", "data", everywhere, namespace),
		pod("legacy", "db", "postgres"),
	}
}

// makeLegacy makes it while no webhook judges it.
func makeLegacy(ctx context.Context) error {
	if err := makeNamespace(ctx, "legacy", "postgres"); err != nil {
		return err
	}
	for _, o := range legacy() {
		if err := retried(ctx, func() error { return world.admin.Create(ctx, o) }); err != nil {
			return err
		}
	}
	return nil
}
