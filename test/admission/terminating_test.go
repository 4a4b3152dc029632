//go:build admission

package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

const (
	keepFinalizer  = "example.com/keep"
	otherFinalizer = "example.com/other"
)

// protections are kinds of objects that isolate the pods of a namespace whose default
// action is Allow, by the namespace.
var protections = map[string]struct {
	kind string
	// object isolates the pods, as any other object of the kind does.
	object func(namespace, name string) client.Object
	// beside has to be there for the object to isolate.
	beside func(namespace string) client.Object
	// open changes an object so that it isolates nothing.
	open func(client.Object)
}{
	"open-np": {
		kind: "NetworkPolicy",
		object: func(namespace, name string) client.Object {
			return isolatingPolicy(namespace, namespace+"-"+name)
		},
		open: func(o client.Object) {
			o.(*networkingv1.NetworkPolicy).Spec.PodSelector.MatchLabels = map[string]string{"app": "none"}
		},
	},
	"open-cnp": {
		kind: "ClusterNetworkPolicy",
		object: func(namespace, name string) client.Object {
			return denyingPolicy(namespace, namespace+"-"+name)
		},
		open: func(o client.Object) { o.(*policyv1alpha2.ClusterNetworkPolicy).Spec.Ingress = nil },
	},
	"open-tr": {
		kind: "TierRole",
		object: func(namespace, name string) client.Object {
			return &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: namespace + "-" + name}, Spec: v1alpha1.TierRoleSpec{
				Role: "data", Namespaces: []string{namespace}, ServiceAccounts: []string{"default"}}}
		},
		beside: func(namespace string) client.Object {
			p := isolatingPolicy(namespace, "data")
			p.Spec.PodSelector.MatchLabels = map[string]string{v1alpha1.RoleLabel: "data"}
			return p
		},
		open: func(o client.Object) { o.(*v1alpha1.TierRole).Spec.ServiceAccounts = []string{"other"} },
	},
}

// denyingPolicy denies all ingress from pods to the pods of the namespace.
func denyingPolicy(namespace, name string) *policyv1alpha2.ClusterNetworkPolicy {
	return &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: policyv1alpha2.ClusterNetworkPolicySpec{
		Tier: policyv1alpha2.AdminTier, Priority: 700,
		Subject: policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{
			MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}}},
		Ingress: []policyv1alpha2.ClusterNetworkPolicyIngressRule{{Action: policyv1alpha2.ClusterNetworkPolicyRuleActionDeny,
			From: []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}}}},
	}}
}

// A copy with a finalizer, deleted first, stays until its owner takes the finalizer away.
func TestATerminatingCopyWithAFinalizerCoversNoDeletion(t *testing.T) {
	for namespace, p := range protections {
		t.Run(p.kind, func(t *testing.T) {
			ctx := t.Context()
			original, decoy := protect(t, namespace, p.object, p.beside)
			if err := world.admin.Delete(ctx, decoy); err != nil {
				t.Fatalf("delete the copy: %v", err)
			}
			becomes(t, "known to be terminating", func() error {
				err := world.admin.Delete(ctx, original, client.DryRunAll)
				if !contains(err, "Guardrail default-deny-stays", decoy.GetName()+", which is being deleted, is gone") {
					return errors.Join(errors.New("want a refusal"), err)
				}
				return nil
			})
			refusedWith(t, world.admin.Delete(ctx, original), "Guardrail default-deny-stays")
			refusedWith(t, updateLatest(ctx, original, p.open), "Guardrail default-deny-stays")
			if err := setFinalizers(ctx, decoy); err != nil {
				t.Errorf("take the finalizer of the copy away: %v", err)
			}
			isGone(t, decoy)
		})
	}
}

// The rule is about deletions alone, and comes after the object was deleted.
func TestTheUpdateThatTakesTheLastFinalizerIsJudgedAsTheDeletion(t *testing.T) {
	for namespace, p := range protections {
		t.Run(p.kind, func(t *testing.T) {
			ctx := t.Context()
			_, going := protect(t, namespace+"-last", p.object, p.beside)
			if err := setFinalizers(ctx, going, keepFinalizer, otherFinalizer); err != nil {
				t.Fatal(err)
			}
			if err := world.admin.Delete(ctx, going); err != nil {
				t.Fatal(err)
			}
			keep := forbidDeletions(t, p.kind, going.GetName())
			if err := setFinalizers(ctx, going, keepFinalizer); err != nil {
				t.Errorf("take one of two finalizers away: %v", err)
			}
			if err := world.admin.Patch(ctx, going.DeepCopyObject().(client.Object), annotation); err != nil {
				t.Errorf("annotate: %v", err)
			}
			refusedWith(t, setFinalizers(ctx, going), "Guardrail "+keep.Name, "it stays")
			if err := world.admin.Get(ctx, client.ObjectKeyFromObject(going), going); err != nil {
				t.Errorf("it is gone: %v", err)
			}
			remove(t, keep)
			becomes(t, "gone", func() error { return setFinalizers(ctx, going) })
			isGone(t, going)
		})
	}
}

// protect makes a namespace whose pod two objects isolate, and waits until the webhook knows both. The
// second has a finalizer, which is taken away at the end.
func protect(t *testing.T, namespace string, object func(namespace, name string) client.Object, beside func(string) client.Object) (original, decoy client.Object) {
	t.Helper()
	ctx := t.Context()
	if err := makeNamespace(ctx, namespace); err != nil {
		t.Fatal(err)
	}
	original, decoy = object(namespace, "original"), object(namespace, "copy")
	decoy.SetFinalizers([]string{keepFinalizer})
	objects := []client.Object{original, decoy}
	if beside != nil {
		objects = append(objects, beside(namespace))
	}
	for _, o := range objects {
		if err := world.admin.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	create(t, pod(namespace, "db", "default"))
	becomes(t, "known", func() error {
		return errors.Join(world.admin.Delete(ctx, original, client.DryRunAll), world.admin.Delete(ctx, decoy, client.DryRunAll))
	})
	return original, decoy
}

// setFinalizers writes the finalizers of an object, whatever else it is meanwhile.
func setFinalizers(ctx context.Context, o client.Object, finalizers ...string) error {
	return updateLatest(ctx, o, func(now client.Object) { now.SetFinalizers(finalizers) })
}

// updateLatest updates an object as it is now, again where another change came between.
func updateLatest(ctx context.Context, o client.Object, change func(client.Object)) error {
	for {
		now := o.DeepCopyObject().(client.Object)
		if err := world.admin.Get(ctx, client.ObjectKeyFromObject(o), now); err != nil {
			return err
		}
		change(now)
		if err := world.admin.Update(ctx, now); !apierrors.IsConflict(err) {
			return err
		}
	}
}

// forbidDeletions is a guardrail against the deletion of an object, in force.
func forbidDeletions(t *testing.T, kind, name string) *v1alpha1.Guardrail {
	t.Helper()
	g := forbids("keeps-"+name, name, "")
	g.Spec.Namespaces, g.Spec.Kinds, g.Spec.Operations = nil, []v1alpha1.Kind{v1alpha1.Kind(kind)}, []v1alpha1.Operation{"DELETE"}
	g.Spec.Rego = fmt.Sprintf("package tierwall.guardrails.%s\n\ndeny contains \"it stays\" if input.request.name == %q\n", strings.ReplaceAll(g.Name, "-", "_"), name)
	create(t, g)
	becomes(t, "in force", func() error { return condition(t, g, "Active", metav1.ConditionTrue, "InForce") })
	return g
}

func isGone(t *testing.T, o client.Object) {
	t.Helper()
	if err := world.admin.Get(t.Context(), client.ObjectKeyFromObject(o), o); !apierrors.IsNotFound(err) {
		t.Errorf("%s is there: %v", o.GetName(), err)
	}
}
