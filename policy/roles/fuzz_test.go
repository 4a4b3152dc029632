package roles_test

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy/roles"
	"github.com/tierwall/tierwall/test/oracle"
)

// FuzzTierRole reads any JSON as a TierRole, beside one that is sound. Every pod has the role that the
// oracle says; a TierRole that Validate finds fault with changes nobody's.
func FuzzTierRole(f *testing.F) {
	for _, spec := range []string{
		`{"role":"data","namespaces":["prod"]}`,
		`{"role":"data","namespaces":["prod","prod",""],"serviceAccounts":["db"]}`,
		`{"role":"data","namespaces":["prod"],"podSelector":{"matchLabels":{"app":"db"}}}`,
		`{"role":"data","namespaces":["prod"],"podSelector":{"matchLabels":{"tierwall.io/tier-role":"data"}}}`,
		`{"role":"data","namespaces":["prod"],"podSelector":{"matchExpressions":[{"key":"app","operator":"NotIn","values":[""]}]}}`,
		`{"role":"data","namespaces":["prod"],"podSelector":{"matchExpressions":[{"key":"app","operator":"Gt","values":["1"]}]}}`,
		`{"role":"Not A Label","namespaces":["prod"]}`, `{"role":"data"}`, `{"namespaces":["prod"],"podSelector":{}}`,
		`{"role":"data","namespaces":["prod"],"serviceAccounts":["default",""]}`, `{}`,
	} {
		f.Add("b", []byte(spec))
	}
	f.Fuzz(func(t *testing.T, name string, spec []byte) {
		sound := tierRole("a", "frontend", nil)
		tr := &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if json.Unmarshal(spec, &tr.Spec) != nil || name == sound.Name {
			return
		}
		both, alone := roles.New([]*v1alpha1.TierRole{tr, sound}), roles.New([]*v1alpha1.TierRole{sound})
		faulty := len(roles.Validate(tr)) > 0
		for _, pod := range pods(tr) {
			got := both.Of(pod.Namespace, pod.Spec.ServiceAccountName, pod.Labels)
			if want := oracle.RoleOf(&oracle.Cluster{TierRoles: []*v1alpha1.TierRole{tr, sound}}, pod); got.Role != want {
				t.Errorf("%s: %+v holds %+v, against %q", spec, pod.ObjectMeta, got, want)
			}
			if before := alone.Of(pod.Namespace, pod.Spec.ServiceAccountName, pod.Labels); faulty && got.Role != before.Role {
				t.Errorf("%s is faulty, yet %+v holds %+v in place of %+v", spec, pod.ObjectMeta, got, before)
			}
			shown := got.Apply(pod.Labels)
			if role, has := shown[v1alpha1.RoleLabel]; role != got.Role || has != (got.Role != "") {
				t.Errorf("a pod with role %q shows %q", got.Role, role)
			}
		}
	})
}

// pods are in the namespaces, with the service accounts and the labels, that a TierRole names, and others.
func pods(tr *v1alpha1.TierRole) []*corev1.Pod {
	var labels []map[string]string
	if s := tr.Spec.PodSelector; s != nil {
		labels = append(labels, s.MatchLabels)
		for _, e := range s.MatchExpressions {
			for _, v := range append(e.Values, "") {
				labels = append(labels, map[string]string{e.Key: v})
			}
		}
	}
	labels = append(labels, nil, map[string]string{v1alpha1.RoleLabel: tr.Spec.Role})
	var out []*corev1.Pod
	for _, namespace := range append([]string{"prod", "test"}, tr.Spec.Namespaces...) {
		for _, account := range append([]string{"", "default"}, tr.Spec.ServiceAccounts...) {
			for _, l := range labels {
				out = append(out, &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Labels: l}, Spec: corev1.PodSpec{ServiceAccountName: account},
				})
			}
		}
	}
	return out
}
