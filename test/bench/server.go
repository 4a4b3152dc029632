package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/test/bench/workload"
)

// apiServer shows a town as an API server does: lists come as a stream (KEP-3157), as protobuf where
// that is asked for, objects are whole, and nothing happens afterwards. It makes each object when it sends it.
type apiServer struct{ workload.Town }

func (s apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	kind := metav1.TypeMeta{APIVersion: strings.Join(path[1:len(path)-1], "/")}
	resource := path[len(path)-1]
	if i := slices.Index(path, "nodes"); i == len(path)-2 {
		node := s.NodeObject(0)
		node.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}
		_ = newStream(w, r).write(node)
		return
	}
	if r.URL.Query().Get("sendInitialEvents") != "true" {
		http.Error(w, "lists are streams here", http.StatusBadRequest)
		return
	}
	stream := newStream(w, r)
	send := func(n int, object func(int) runtime.Object) {
		for i := range n {
			if stream.event(watch.Added, object(i)) != nil {
				return // the agent went away
			}
		}
	}
	var last runtime.Object
	switch resource {
	case "pods":
		kind.Kind = "Pod"
		send(s.Pods, func(i int) runtime.Object { return whole(s.Pod(i), kind) })
		last = &corev1.Pod{TypeMeta: kind, ObjectMeta: end()}
	case "namespaces":
		kind.Kind = "Namespace"
		send(s.Namespaces(), func(i int) runtime.Object { n := s.Namespace(i); n.TypeMeta = kind; return n })
		last = &corev1.Namespace{TypeMeta: kind, ObjectMeta: end()}
	case "nodes":
		kind.Kind = "Node"
		send(s.Nodes(), func(i int) runtime.Object { n := s.NodeObject(i); n.TypeMeta = kind; return n })
		last = &corev1.Node{TypeMeta: kind, ObjectMeta: end()}
	case "networkpolicies":
		kind.Kind = "NetworkPolicy"
		send(s.Policies, func(i int) runtime.Object { p := s.Policy(i); p.TypeMeta = kind; return p })
		last = &networkingv1.NetworkPolicy{TypeMeta: kind, ObjectMeta: end()}
	case "clusternetworkpolicies":
		kind.Kind = "ClusterNetworkPolicy"
		send(s.ClusterPolicies(), func(i int) runtime.Object { p := s.ClusterPolicy(i); p.TypeMeta = kind; return p })
		last = &policyv1alpha2.ClusterNetworkPolicy{TypeMeta: kind, ObjectMeta: end()}
	case "tierroles":
		kind.Kind = "TierRole"
		send(s.TierRoles(), func(i int) runtime.Object { tr := s.TierRole(i); tr.TypeMeta = kind; return tr })
		last = &v1alpha1.TierRole{TypeMeta: kind, ObjectMeta: end()}
	}
	if last == nil || stream.event(watch.Bookmark, last) != nil {
		return
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// end is of the bookmark that ends the list.
func end() metav1.ObjectMeta {
	return metav1.ObjectMeta{ResourceVersion: "1", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}
}

// whole is the pod with what a real one has besides: probes, volumes, environment, conditions and
// managed fields, about 4 KiB.
func whole(p *corev1.Pod, kind metav1.TypeMeta) *corev1.Pod {
	p.TypeMeta, p.ResourceVersion = kind, "1"
	p.GenerateName = p.Labels["app"] + "-"
	p.Annotations = map[string]string{"checksum/config": strings.Repeat("0123456789abcdef", 4), "prometheus.io/scrape": "true"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: p.Labels["app"], UID: p.UID}}
	fields := fmt.Sprintf(`{"f:metadata":{"f:labels":{%s".":{}}},"f:spec":{}}`, strings.Repeat(`"f:app.kubernetes.io/name":{},`, 12))
	for _, manager := range []string{"kube-controller-manager", "kubelet"} {
		p.ManagedFields = append(p.ManagedFields, metav1.ManagedFieldsEntry{Manager: manager, Operation: "Update", APIVersion: "v1",
			FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(fields)}})
	}
	p.Spec.Volumes = []corev1.Volume{{Name: "config"}, {Name: "kube-api-access-" + p.Labels["pod-template-hash"]}}
	p.Spec.Tolerations = []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute"},
		{Key: "node.kubernetes.io/unreachable", Operator: "Exists", Effect: "NoExecute"}}
	c := &p.Spec.Containers[0]
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http")}}}
	c.LivenessProbe, c.ReadinessProbe, c.ImagePullPolicy = probe, probe, corev1.PullIfNotPresent
	c.Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("128Mi")}
	for i := range 10 {
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprint("SETTING_", i), Value: strings.Repeat("value ", i)})
	}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: "/etc/config"}, {Name: "kube-api-access", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}
	for _, condition := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: condition, Status: "True", LastTransitionTime: p.CreationTimestamp})
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: c.Name, Ready: true, Image: c.Image,
		ImageID: "registry.example@sha256:" + strings.Repeat("0123456789abcdef", 4), ContainerID: "containerd://" + strings.Repeat("0123456789abcdef", 4)}}
	return p
}
