package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// Model is a snapshot, and what the objects leave open about its pods.
type Model struct {
	Snapshot *compile.Snapshot
	// Open are the labels of a pod, by "namespace/name", that cannot be known.
	Open map[string][]OpenLabel
	// pods are the names of the pods of each workload.
	pods map[Key][]string
}

// PodsOf are the names of the pods of a workload: those that run, or its stand-ins.
func (m *Model) PodsOf(kind, namespace, name string) []string {
	return m.pods[Key{kind, namespace, name}]
}

// Snapshot is the state as the compiler takes it. A workload whose pods are not
// among the objects has one stand-in, and more with the labels that selectors ask for
// and that something may add to a pod when it runs.
func (s State) Snapshot(defaults policy.Defaults) *compile.Snapshot {
	m := s.model(defaults, func(Key) int { return 1 })
	out := m.Snapshot
	selectors := PodSelectors(out)
	for _, p := range slices.Clone(out.Pods) {
		if open := m.Open[p.Namespace+"/"+p.Name]; len(open) > 0 {
			out.Pods = append(out.Pods, labelVariants(p, open, selectors)...)
		}
	}
	return out
}

// Model is the state with stand-ins for several replicas of a workload, where it can have them.
func (s State) Model(defaults policy.Defaults) *Model {
	return s.model(defaults, s.standInsOf)
}

// standInsOf is how many stand-ins a workload needs, for each replica that can be told from the
// others and for one that is another than the first.
func (s State) standInsOf(k Key) int {
	n := s.replicas(k)
	if k.Kind == "StatefulSet" || k.Kind == "Job" || k.Kind == "CronJob" {
		return max(1, min(n, maxOrdinals))
	}
	return max(1, min(n, several))
}

func (s State) model(defaults policy.Defaults, standIns func(Key) int) *Model {
	out := &compile.Snapshot{Defaults: defaults}
	m := &Model{Snapshot: out, Open: map[string][]OpenLabel{}, pods: map[Key][]string{}}
	owned := s.podsByWorkload()
	stand := map[string]Key{}
	for _, k := range s.keys() {
		switch o := s.objects[k].(type) {
		case *corev1.Namespace:
			out.Namespaces = append(out.Namespaces, clustercache.Namespace(o))
		case *corev1.Node:
			out.Nodes = append(out.Nodes, clustercache.Node(o))
		case *corev1.Pod:
			pod, open := s.pod(o)
			out.Pods = append(out.Pods, pod)
			m.addOpen(pod, open)
			for _, owner := range s.ownersOf(o) {
				m.pods[owner] = append(m.pods[owner], o.Name)
			}
		case *networkingv1.NetworkPolicy:
			out.NetworkPolicies = append(out.NetworkPolicies, o)
		case *policyv1alpha2.ClusterNetworkPolicy:
			out.ClusterNetworkPolicies = append(out.ClusterNetworkPolicies, o)
		case *v1alpha1.TierRole:
			out.TierRoles = append(out.TierRoles, o)
		default:
			if !s.needsStandIn(k, owned[k]) {
				continue
			}
			for i := range standIns(k) {
				pod, open := s.standIn(k, i)
				out.Pods = append(out.Pods, pod)
				m.addOpen(pod, open)
				m.pods[k] = append(m.pods[k], pod.Name)
				stand[pod.Namespace+"/"+pod.Name] = k
			}
		}
	}
	m.addRuntimeLabels(s, stand)
	return m
}

func (m *Model) addOpen(p *compile.Pod, open []OpenLabel) {
	if len(open) > 0 {
		key := p.Namespace + "/" + p.Name
		m.Open[key] = append(m.Open[key], open...)
	}
}

// addRuntimeLabels notes what may be added to stand-ins when they run.
func (m *Model) addRuntimeLabels(s State, stand map[string]Key) {
	if len(stand) == 0 {
		return
	}
	mentions := s.mentionsIn(m.Snapshot)
	mentions = slices.DeleteFunc(mentions, func(x mention) bool { return isGenerated(x.key) || x.key == v1alpha1.RoleLabel })
	for _, p := range m.Snapshot.Pods {
		if k, ok := stand[p.Namespace+"/"+p.Name]; ok {
			m.addOpen(p, runtimeLabels(k.Kind, p, mentions, m.Snapshot.Pods))
		}
	}
}

// needsStandIn reports whether a pod has to stand for those of the object: it is a workload of its own,
// which makes pods, and of which none is among the objects that its present template makes.
func (s State) needsStandIn(k Key, pods []*corev1.Pod) bool {
	o := s.objects[k]
	if o == nil || Template(o) == nil || s.isPart(k) || s.hasEnded(k) {
		return false
	}
	if k.Kind == "CronJob" && len(pods) > 0 { // the next Job has the new template, the pods keep theirs
		return s.templateChanged(k)
	}
	return len(pods) == 0
}

// templateChanged reports whether a manifest gives the workload another template than it had.
func (s State) templateChanged(k Key) bool {
	before, applied := s.replaced[k]
	if !applied || before == nil {
		return false
	}
	was, is := Template(before), Template(s.objects[k])
	return was == nil || !maps.Equal(was.Labels, is.Labels) || Account(&was.Spec) != Account(&is.Spec) || was.Spec.HostNetwork != is.Spec.HostNetwork
}

// standIn is the pod that stands for one of the workload's.
func (s State) standIn(k Key, ordinal int) (*compile.Pod, []OpenLabel) {
	t := Template(s.objects[k])
	p := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	p.Namespace, p.Name = k.Namespace, standInName(k)
	if ordinal > 0 {
		p.Name = fmt.Sprintf("%s#%d", p.Name, ordinal+1)
	}
	generated, open := s.generatedLabels(k, ordinal)
	p.Labels = maps.Clone(t.Labels)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	maps.Copy(p.Labels, generated)
	return clustercache.Pod(p), slices.DeleteFunc(open, func(l OpenLabel) bool { _, has := t.Labels[l.Key]; return has })
}

// standInName is such as deployment/web, which no pod can be called.
func standInName(k Key) string { return strings.ToLower(k.Kind) + "/" + k.Name }

// pod is a pod as it is, or as the workload makes it anew when a manifest changes the workload.
func (s State) pod(p *corev1.Pod) (*compile.Pod, []OpenLabel) {
	k, ok := s.workloadOf(p)
	_, podApplied := s.replaced[KeyOf("Pod", p)]
	before, applied := s.replaced[k]
	if !ok || podApplied || !applied || k.Kind == "CronJob" {
		return clustercache.Pod(p), nil
	}
	is, was := Template(s.objects[k]), Template(before)
	renewed := *p
	var open []OpenLabel
	renewed.Labels, open = runningLabels(p, was, is)
	renewed.Spec.ServiceAccountName, renewed.Spec.HostNetwork = Account(&is.Spec), is.Spec.HostNetwork
	renewed.Spec.Containers, renewed.Spec.InitContainers = is.Spec.Containers, is.Spec.InitContainers
	return clustercache.Pod(&renewed), open
}
