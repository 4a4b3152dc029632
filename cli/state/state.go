// Package state is the objects of a cluster, as they are or as they would be
// when a folder of manifests is applied.
package state

import (
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/cluster"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// State is objects by their kind, namespace and name. It is not changed once made.
type State struct {
	objects map[Key]client.Object
}

// Key names an object.
type Key struct{ Kind, Namespace, Name string }

// KeyOf is the key of an object of a kind.
func KeyOf(kind string, o client.Object) Key { return Key{kind, o.GetNamespace(), o.GetName()} }

// With is the state in which the objects are too, in the place of those with the same key.
func (s State) With(objects map[Key]client.Object) State {
	out := State{objects: maps.Clone(s.objects)}
	if out.objects == nil {
		out.objects = map[Key]client.Object{}
	}
	maps.Copy(out.objects, objects)
	return out
}

// Get is an object, or nil.
func (s State) Get(k Key) client.Object { return s.objects[k] }

// Has says whether there is an object of a kind.
func (s State) Has(kinds ...string) bool {
	for k := range s.objects {
		if slices.Contains(kinds, k.Kind) {
			return true
		}
	}
	return false
}

// Guardrails are the Guardrail objects, by name.
func (s State) Guardrails() []*v1alpha1.Guardrail {
	var out []*v1alpha1.Guardrail
	for _, k := range s.keys() {
		if g, ok := s.objects[k].(*v1alpha1.Guardrail); ok {
			out = append(out, g)
		}
	}
	return out
}

func (s State) keys() []Key {
	return slices.SortedFunc(maps.Keys(s.objects), func(a, b Key) int {
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
}

// Snapshot is the state as the compiler takes it. A workload whose pods are not
// among the objects stands for one pod, which has no address yet; one whose pods
// are there gives them what its template says.
func (s State) Snapshot(defaults policy.Defaults) *compile.Snapshot {
	out := &compile.Snapshot{Defaults: defaults}
	owned := s.podsByWorkload()
	for _, k := range s.keys() {
		switch o := s.objects[k].(type) {
		case *corev1.Namespace:
			out.Namespaces = append(out.Namespaces, cluster.Namespace(o))
		case *corev1.Node:
			out.Nodes = append(out.Nodes, cluster.Node(o))
		case *corev1.Pod:
			out.Pods = append(out.Pods, s.pod(o))
		case *networkingv1.NetworkPolicy:
			out.NetworkPolicies = append(out.NetworkPolicies, o)
		case *policyv1alpha2.ClusterNetworkPolicy:
			out.ClusterNetworkPolicies = append(out.ClusterNetworkPolicies, o)
		case *v1alpha1.TierRole:
			out.TierRoles = append(out.TierRoles, o)
		default:
			if t := Template(o); t != nil && len(owned[k]) == 0 {
				out.Pods = append(out.Pods, standIn(k, t))
			}
		}
	}
	return out
}

// podsByWorkload are the pods that there are of each workload.
func (s State) podsByWorkload() map[Key][]*corev1.Pod {
	out := map[Key][]*corev1.Pod{}
	for _, o := range s.objects {
		if p, ok := o.(*corev1.Pod); ok {
			if w, ok := s.workloadOf(p); ok {
				out[w] = append(out[w], p)
			}
		}
	}
	return out
}

// workloadOf is the workload among the objects that made the pod.
func (s State) workloadOf(p *corev1.Pod) (Key, bool) {
	for _, k := range madeBy(p) {
		if Template(s.objects[k]) != nil {
			return k, true
		}
	}
	return Key{}, false
}

// madeBy are the workloads that made the pod. A Deployment's pods belong to a
// ReplicaSet that is named after it and the hash of its template.
func madeBy(p *corev1.Pod) []Key {
	for _, r := range p.OwnerReferences {
		if r.Controller == nil || !*r.Controller {
			continue
		}
		keys := []Key{{r.Kind, p.Namespace, r.Name}}
		hash := p.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
		if name, ok := strings.CutSuffix(r.Name, "-"+hash); ok && hash != "" && r.Kind == "ReplicaSet" {
			keys = append(keys, Key{"Deployment", p.Namespace, name})
		}
		return keys
	}
	return nil
}

// PodsOf are the names of the pods of a workload, sorted: its stand-in, or the pods
// that it made.
func (s State) PodsOf(kind, namespace, name string) []string {
	out := []string{standInName(Key{kind, namespace, name})}
	for _, k := range s.keys() {
		p, ok := s.objects[k].(*corev1.Pod)
		if ok && p.Namespace == namespace && slices.Contains(madeBy(p), Key{kind, namespace, name}) {
			out = append(out, p.Name)
		}
	}
	return out
}

// pod is a pod, as its workload's template makes it anew.
func (s State) pod(p *corev1.Pod) *compile.Pod {
	k, ok := s.workloadOf(p)
	if !ok {
		return cluster.Pod(p)
	}
	t := Template(s.objects[k])
	renewed := *p
	renewed.Labels = maps.Clone(t.Labels)
	for _, generated := range []string{appsv1.DefaultDeploymentUniqueLabelKey, appsv1.ControllerRevisionHashLabelKey, appsv1.StatefulSetPodNameLabel, appsv1.PodIndexLabel} {
		if v, ok := p.Labels[generated]; ok {
			if renewed.Labels == nil {
				renewed.Labels = map[string]string{}
			}
			renewed.Labels[generated] = v
		}
	}
	renewed.Spec.ServiceAccountName, renewed.Spec.HostNetwork = account(t), t.Spec.HostNetwork
	renewed.Spec.Containers, renewed.Spec.InitContainers = t.Spec.Containers, t.Spec.InitContainers
	return cluster.Pod(&renewed)
}
