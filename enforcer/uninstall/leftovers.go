package uninstall

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// deleteLeftovers deletes what the release's pods, or cert-manager on their
// behalf, made in the release's namespace.
func (u *Uninstaller) deleteLeftovers(ctx context.Context) error {
	for _, name := range u.Secrets {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: u.Namespace, Name: name}}
		if err := u.deleteObject(ctx, "Secret", secret); err != nil {
			return err
		}
	}
	for _, name := range u.Leases {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: u.Namespace, Name: name}}
		if err := u.deleteObject(ctx, "Lease", lease); err != nil {
			return err
		}
	}
	return nil
}
