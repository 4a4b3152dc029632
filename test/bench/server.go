package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/test/bench/town"
)

// apiServer shows a town as an API server does: lists come as a stream (KEP-3157), objects are
// whole, and nothing happens afterwards. It makes each object when it sends it.
type apiServer struct{ town.Town }

func (s apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("sendInitialEvents") != "true" {
		http.Error(w, "lists are streams here", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	encoder := json.NewEncoder(w)
	send := func(n int, object func(int) any) {
		for i := range n {
			if err := encoder.Encode(map[string]any{"type": "ADDED", "object": object(i)}); err != nil {
				return // the agent went away
			}
		}
	}
	kind := metav1.TypeMeta{APIVersion: strings.Join(path[1:len(path)-1], "/")}
	switch path[len(path)-1] {
	case "pods":
		kind.Kind = "Pod"
		send(s.Pods, func(i int) any { return whole(s.Pod(i), kind) })
	case "namespaces":
		kind.Kind = "Namespace"
		send(s.Namespaces(), func(i int) any { n := s.Namespace(i); n.TypeMeta = kind; return n })
	case "nodes":
		kind.Kind = "Node"
		send(s.Nodes(), func(i int) any { n := s.NodeObject(i); n.TypeMeta = kind; return n })
	case "networkpolicies":
		kind.Kind = "NetworkPolicy"
		send(s.Policies, func(i int) any { p := s.Policy(i); p.TypeMeta = kind; return p })
	case "clusternetworkpolicies":
		kind.Kind = "ClusterNetworkPolicy"
		send(s.ClusterPolicies(), func(i int) any { p := s.ClusterPolicy(i); p.TypeMeta = kind; return p })
	case "tierroles":
		kind.Kind = "TierRole"
		send(s.TierRoles(), func(i int) any { tr := s.TierRole(i); tr.TypeMeta = kind; return tr })
	}
	end := metav1.ObjectMeta{ResourceVersion: "1", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}
	_ = encoder.Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{"kind": kind.Kind, "apiVersion": kind.APIVersion, "metadata": end}})
	w.(http.Flusher).Flush()
	<-r.Context().Done()
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
