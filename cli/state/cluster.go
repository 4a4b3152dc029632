package state

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/cluster"
)

// page is how many objects are asked for at once.
const page = 1000

// Live is the state of a cluster. Of kinds that it does not serve it has no objects;
// missing names them.
func Live(ctx context.Context, config *rest.Config) (s State, missing []string, err error) {
	c, err := client.New(config, client.Options{Scheme: cluster.Scheme()})
	if err != nil {
		return State{}, nil, fmt.Errorf("ask the API server what it serves: %w", err)
	}
	objects := map[Key]client.Object{}
	for _, k := range []struct {
		name string
		list client.ObjectList
	}{
		{"Namespace", &corev1.NamespaceList{}}, {"Node", &corev1.NodeList{}}, {"Pod", &corev1.PodList{}},
		{"NetworkPolicy", &networkingv1.NetworkPolicyList{}}, {"ClusterNetworkPolicy", &policyv1alpha2.ClusterNetworkPolicyList{}},
		{"TierRole", &v1alpha1.TierRoleList{}}, {"Guardrail", &v1alpha1.GuardrailList{}},
	} {
		err := list(ctx, c, k.list, func(o client.Object) { objects[KeyOf(k.name, o)] = o })
		switch {
		case meta.IsNoMatchError(err) || apierrors.IsNotFound(err):
			missing = append(missing, k.name)
		case err != nil:
			return State{}, nil, fmt.Errorf("list the objects of kind %s: %w", k.name, err)
		}
	}
	return State{objects: objects}, missing, nil
}

func list(ctx context.Context, c client.Client, into client.ObjectList, add func(client.Object)) error {
	for next := ""; ; {
		if err := c.List(ctx, into, client.Limit(page), client.Continue(next)); err != nil {
			return err
		}
		if err := meta.EachListItemWithAlloc(into, func(o runtime.Object) error {
			add(o.(client.Object))
			return nil
		}); err != nil {
			return err
		}
		if next = into.GetContinue(); next == "" {
			return nil
		}
	}
}
