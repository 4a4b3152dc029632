package clustercache

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// Scheme knows every kind that policy depends on.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, networkingv1.AddToScheme, policyv1alpha2.Install, v1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err) // two Go types of one kind: a mistake in the program itself
		}
	}
	return s
}
