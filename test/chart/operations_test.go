package chart

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

// operations is docs/operations.md.
func operations(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// cleanupPod is the pod that is documented to clean one node.
func cleanupPod(t *testing.T) *corev1.Pod {
	t.Helper()
	_, rest, _ := strings.Cut(operations(t), "<<EOF\n")
	manifest, _, ok := strings.Cut(rest, "\nEOF\n")
	if !ok {
		t.Fatal("docs/operations.md has no manifest")
	}
	manifest = strings.ReplaceAll(manifest, "$node", "worker-3.example")
	decoder := serializer.NewCodecFactory(scheme(t), serializer.EnableStrict).UniversalDeserializer()
	o, _, err := decoder.Decode([]byte(manifest), nil, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, manifest)
	}
	return o.(*corev1.Pod)
}

// TestNodesCanBeCleanedByHand: the pod that is documented for that has what the
// node agent has on its node, and nothing more.
func TestNodesCanBeCleanedByHand(t *testing.T) {
	pod := cleanupPod(t).Spec
	all := objects(t, variant{})
	agent := all[slices.IndexFunc(all, isEnforcer)].Object.(*appsv1.DaemonSet).Spec.Template.Spec
	got, want := pod.Containers[0], agent.Containers[0]
	// Cleaning asks no API server and serves no metrics.
	want.VolumeMounts = slices.DeleteFunc(want.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "token" || m.Name == "metrics" })
	agent.Volumes = slices.DeleteFunc(agent.Volumes, func(v corev1.Volume) bool { return v.Name == "token" || v.Name == "metrics" })
	for what, pair := range map[string][2]any{
		"image":           {got.Image, want.Image},
		"securityContext": {got.SecurityContext, want.SecurityContext},
		"volumeMounts":    {got.VolumeMounts, want.VolumeMounts},
		"volumes":         {pod.Volumes, agent.Volumes},
		"hostNetwork":     {pod.HostNetwork, agent.HostNetwork},
		"tolerations":     {pod.Tolerations, agent.Tolerations},
		"args":            {got.Args, []string{"cleanup"}},
		"node":            {pod.NodeName, "worker-3.example"},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s is %+v, want %+v", what, pair[0], pair[1])
		}
	}
}

// TestUninstallationByHandIsDocumented: it deletes by name what the hooks would.
func TestUninstallationByHandIsDocumented(t *testing.T) {
	_, byHand, ok := strings.Cut(operations(t), "**By hand**")
	if !ok {
		t.Fatal("docs/operations.md says nothing of it")
	}
	named := 0
	for _, o := range objects(t, variant{}) {
		if o.kind != "Job" {
			continue
		}
		pod, _ := podOf(o)
		for _, arg := range pod.Containers[0].Args {
			flag, names, _ := strings.Cut(arg, "=")
			if flag != "--secrets" && flag != "--leases" {
				continue
			}
			for name := range strings.SplitSeq(names, ",") {
				named++
				if !strings.Contains(byHand, " "+name) {
					t.Errorf("docs/operations.md leaves %s", name)
				}
			}
		}
	}
	if named == 0 {
		t.Error("the hooks delete nothing by name")
	}
}
