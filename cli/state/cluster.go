package state

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/clustercache"
)

// page is how many objects are asked for at once.
const page = 1000

// listed is a kind that is listed.
type listed struct {
	name string
	list client.ObjectList
	// context is true of kinds that no policy depends on: what they would say is unknown where
	// they may not be listed.
	context bool
}

// Live is the state of a cluster. Of kinds that it does not serve, or whose objects the user may not
// list though no policy depends on them, it has none; missing names them.
func Live(ctx context.Context, config *rest.Config) (s State, missing []string, err error) {
	scheme, err := listedScheme()
	if err != nil {
		return State{}, nil, err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return State{}, nil, fmt.Errorf("ask the API server what it serves: %w", err)
	}
	objects := map[Key]client.Object{}
	for _, k := range []listed{
		{"Namespace", &corev1.NamespaceList{}, false}, {"Node", &corev1.NodeList{}, false}, {"Pod", &corev1.PodList{}, false},
		{"NetworkPolicy", &networkingv1.NetworkPolicyList{}, false}, {"ClusterNetworkPolicy", &policyv1alpha2.ClusterNetworkPolicyList{}, false},
		{"TierRole", &v1alpha1.TierRoleList{}, false}, {"Guardrail", &v1alpha1.GuardrailList{}, false},
		{"Deployment", &appsv1.DeploymentList{}, true}, {"StatefulSet", &appsv1.StatefulSetList{}, true},
		{"DaemonSet", &appsv1.DaemonSetList{}, true}, {"Job", &batchv1.JobList{}, true}, {"CronJob", &batchv1.CronJobList{}, true},
		{"Service", &corev1.ServiceList{}, true}, {"EndpointSlice", &discoveryv1.EndpointSliceList{}, true},
	} {
		err := list(ctx, c, k.list, func(o client.Object) { objects[KeyOf(k.name, o)] = o })
		switch {
		case meta.IsNoMatchError(err), apierrors.IsNotFound(err), k.context && apierrors.IsForbidden(err):
			missing = append(missing, k.name)
		case err != nil:
			return State{}, nil, fmt.Errorf("list the objects of kind %s: %w", k.name, err)
		}
	}
	return New(objects), missing, nil
}

// listedScheme knows the kinds that are listed.
func listedScheme() (*runtime.Scheme, error) {
	s := clustercache.Scheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, batchv1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("register the kinds to list: %w", err)
		}
	}
	return s, nil
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
