package uninstall

import (
	"context"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// InstalledByAnnotation is on a CustomResourceDefinition of a group that is not
// ours where the chart, whose value InstalledByChart is, brought it.
const (
	InstalledByAnnotation = "tierwall.io/installed-by"
	InstalledByChart      = "chart"
)

// ownDefinitions are the CustomResourceDefinitions of our own group.
var ownDefinitions = []string{"guardrails.tierwall.io", "tierroles.tierwall.io"}

// sharedDefinition is a standard's, which others may have brought, or use.
const sharedDefinition = "clusternetworkpolicies.policy.networking.k8s.io"

var sharedList = schema.GroupVersionKind{
	Group: "policy.networking.k8s.io", Version: "v1alpha2", Kind: "ClusterNetworkPolicyList",
}

// deleteDefinitions deletes the CustomResourceDefinitions that are ours, unless
// they are to be kept.
func (u *Uninstaller) deleteDefinitions(ctx context.Context) error {
	if u.KeepCRDs {
		u.Log.Info("the CustomResourceDefinitions stay, as asked for")
		return nil
	}
	for _, name := range ownDefinitions {
		if err := u.deleteDefinition(ctx, name); err != nil {
			return err
		}
	}
	reason, err := u.keepShared(ctx)
	if err != nil {
		return err
	}
	if reason != "" {
		u.Log.Info("a CustomResourceDefinition stays", "name", sharedDefinition, "reason", reason)
		return nil
	}
	return u.deleteDefinition(ctx, sharedDefinition)
}

// keepShared says why the shared CustomResourceDefinition has to stay, or
// nothing where it may go.
func (u *Uninstaller) keepShared(ctx context.Context) (string, error) {
	var crd apiextensionsv1.CustomResourceDefinition
	err := u.Client.Get(ctx, client.ObjectKey{Name: sharedDefinition}, &crd)
	if apierrors.IsNotFound(err) {
		return "it is not there", nil
	}
	if err != nil {
		return "", fmt.Errorf("read CustomResourceDefinition %s: %w", sharedDefinition, err)
	}
	if crd.Annotations[InstalledByAnnotation] != InstalledByChart {
		return "the chart did not bring it", nil
	}
	policies := &metav1.PartialObjectMetadataList{}
	policies.SetGroupVersionKind(sharedList)
	if err := u.Client.List(ctx, policies); err != nil {
		return "", fmt.Errorf("list ClusterNetworkPolicies: %w", err)
	}
	if n := len(policies.Items); n > 0 {
		return fmt.Sprintf("%d ClusterNetworkPolicies that are not the chart's are there", n), nil
	}
	return "", nil
}

// deleteDefinition deletes a CustomResourceDefinition and waits until it is
// gone, so that the chart can be installed again at once.
func (u *Uninstaller) deleteDefinition(ctx context.Context, name string) error {
	crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := u.deleteObject(ctx, "CustomResourceDefinition", crd); err != nil {
		return err
	}
	err := u.pollUntil(ctx, func(ctx context.Context) (bool, error) {
		err := u.Client.Get(ctx, client.ObjectKey{Name: name}, crd)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
	if err != nil {
		return fmt.Errorf("wait for CustomResourceDefinition %s to go: %w", name, err)
	}
	return nil
}
