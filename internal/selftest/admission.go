package selftest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// Objects of the test exist in dry runs alone.
const probeName = "tierwall-selftest"

func (i *Installation) nonsenseRefused(ctx context.Context) error {
	return i.refused(ctx, "guardrails.tierwall.io", &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: probeName},
		Spec:       v1alpha1.GuardrailSpec{Rego: "this is no Rego"},
	})
}

func (i *Installation) openPolicyRefused(ctx context.Context) error {
	return i.refused(ctx, "policies.tierwall.io", &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: i.PolicyNamespace, Name: probeName},
		Spec: networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{{}},
		},
	})
}

// refused creates an object in a dry run, and is content when the webhook of
// that name refuses it: neither a missing right nor a missing webhook will do.
func (i *Installation) refused(ctx context.Context, webhook string, object client.Object) error {
	err := i.Client.Create(ctx, object, client.DryRunAll)
	if err == nil {
		return errors.New("it was admitted")
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("admission webhook %q denied the request", webhook)) {
		return fmt.Errorf("it was not webhook %s that refused it: %w", webhook, err)
	}
	return nil
}
