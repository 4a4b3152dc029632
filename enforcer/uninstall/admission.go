package uninstall

import (
	"context"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// admissionKind is a kind of object that makes the API server ask, or judge by itself.
type admissionKind struct {
	name string
	list client.ObjectList
}

// admissionKinds are in the order of deletion: webhooks, which fail when
// nobody answers, go first, and a binding before the policy that it binds.
func admissionKinds() []admissionKind {
	return []admissionKind{
		{"ValidatingWebhookConfiguration", &admissionv1.ValidatingWebhookConfigurationList{}},
		{"MutatingWebhookConfiguration", &admissionv1.MutatingWebhookConfigurationList{}},
		{"ValidatingAdmissionPolicyBinding", &admissionv1.ValidatingAdmissionPolicyBindingList{}},
		{"ValidatingAdmissionPolicy", &admissionv1.ValidatingAdmissionPolicyList{}},
	}
}

// deleteAdmission deletes everything by which the release judges requests.
func (u *Uninstaller) deleteAdmission(ctx context.Context) error {
	for _, kind := range admissionKinds() {
		if err := u.Client.List(ctx, kind.list, u.componentLabels("")); err != nil {
			return fmt.Errorf("list %s objects of release %s: %w", kind.name, u.Release, err)
		}
		err := meta.EachListItem(kind.list, func(object runtime.Object) error {
			return u.deleteObject(ctx, kind.name, object.(client.Object))
		})
		if err != nil {
			return err
		}
	}
	return nil
}
