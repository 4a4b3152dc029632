package chart

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// podOf is the pod that an object is or makes.
func podOf(o object) (corev1.PodSpec, bool) {
	switch w := o.Object.(type) {
	case *appsv1.DaemonSet:
		return w.Spec.Template.Spec, true
	case *appsv1.Deployment:
		return w.Spec.Template.Spec, true
	case *batchv1.Job:
		return w.Spec.Template.Spec, true
	case *corev1.Pod:
		return w.Spec, true
	}
	return corev1.PodSpec{}, false
}

func isEnforcer(o object) bool { return o.String() == "DaemonSet tierwall-enforcer" }

// nodeRights is all that the node agent has beyond the "restricted" Pod Security Standard.
var nodeRights = []string{
	"hostNetwork", "hostPath /run/xtables.lock", "runs as root", "capability NET_ADMIN", "capability NET_RAW",
}

// nodeRightsWithCNI are those where it keeps a CNI plugin installed, too.
var nodeRightsWithCNI = []string{
	"hostNetwork", "hostPath /run/xtables.lock", "hostPath /run/tierwall", "hostPath /usr/lib/cni", "hostPath /etc/cni/net.d",
	"runs as root", "capability NET_ADMIN", "capability NET_RAW",
}

func hasContainer(pod corev1.PodSpec, name string) bool {
	return slices.ContainsFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == name })
}

func TestPodsAreRestricted(t *testing.T) {
	forEveryVariant(t, func(t *testing.T, all []object) {
		agents := 0
		for _, o := range all {
			pod, ok := podOf(o)
			if !ok {
				continue
			}
			got := beyondRestricted(pod)
			var want []string
			switch {
			case isEnforcer(o):
				agents++
				if want = nodeRights; hasContainer(pod, "cni") {
					want = nodeRightsWithCNI
				}
			case o.kind == "Job": // has to reach the API server whatever the rules of its node are
				want = []string{"hostNetwork"}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s has beyond what is restricted %q, want %q", o, got, want)
			}
		}
		if agents != 1 {
			t.Errorf("%d node agents are rendered", agents)
		}
	})
}

// beyondRestricted says what a pod has that the "restricted" Pod Security
// Standard refuses, and a root file system that it can write.
func beyondRestricted(pod corev1.PodSpec) []string {
	var out []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(pod.HostNetwork, "hostNetwork")
	add(pod.HostPID, "hostPID")
	add(pod.HostIPC, "hostIPC")
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			add(true, "hostPath %s", v.HostPath.Path)
		}
	}
	security := pod.SecurityContext
	if security == nil {
		return append(out, "no securityContext")
	}
	add(security.SeccompProfile == nil || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault, "no seccomp profile")
	add(security.RunAsNonRoot == nil || !*security.RunAsNonRoot, "runs as root")
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		out = append(out, containerBeyondRestricted(c)...)
	}
	return out
}

func containerBeyondRestricted(c corev1.Container) []string {
	s := c.SecurityContext
	if s == nil || s.Capabilities == nil {
		return []string{"container " + c.Name + " has no securityContext"}
	}
	var out []string
	if s.Privileged != nil && *s.Privileged {
		out = append(out, "privileged")
	}
	if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
		out = append(out, "privilege escalation")
	}
	if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		out = append(out, "writes its root file system")
	}
	if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		out = append(out, "keeps capabilities")
	}
	for _, capability := range s.Capabilities.Add {
		out = append(out, "capability "+string(capability))
	}
	return out
}

func TestPodsSayWhatTheyNeed(t *testing.T) {
	forEveryVariant(t, func(t *testing.T, all []object) {
		for _, o := range all {
			pod, ok := podOf(o)
			if !ok {
				continue
			}
			if pod.ServiceAccountName == "" {
				t.Errorf("%s runs as the default service account", o)
			}
			for _, c := range pod.Containers {
				if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: container %s has no request or no limit of memory", o, c.Name)
				}
				if !strings.Contains(c.Image, ":") || strings.HasSuffix(c.Image, ":latest") {
					t.Errorf("%s: image %s is not pinned", o, c.Image)
				}
			}
		}
	})
}

// TestPodsRunOnLinux, whatever nodes the values select besides.
func TestPodsRunOnLinux(t *testing.T) {
	selections := map[string][]string{
		"no selection":    {"--set", "webhook.nodeSelector=null", "--set", "enforcer.nodeSelector=null"},
		"some selection":  {"--set", "webhook.nodeSelector.pool=system", "--set", "enforcer.nodeSelector.pool=system"},
		"another system":  {"--set", `webhook.nodeSelector.kubernetes\.io/os=windows`},
		"as the chart is": nil,
	}
	for name, args := range selections {
		t.Run(name, func(t *testing.T) {
			for _, o := range objects(t, variant{args: args}) {
				pod, ok := podOf(o)
				if !ok {
					continue
				}
				if got := pod.NodeSelector["kubernetes.io/os"]; got != "linux" {
					t.Errorf("%s runs on nodes with operating system %q", o, got)
				}
				if want := name == "some selection"; (pod.NodeSelector["pool"] == "system") != want {
					t.Errorf("%s selects nodes by %v", o, pod.NodeSelector)
				}
			}
		})
	}
}

// managerShutdown is how long controller-runtime lets what is under way end
// once the signal has come, in seconds.
const managerShutdown = 30

// TestWebhookEndsByItself before the kubelet kills it.
func TestWebhookEndsByItself(t *testing.T) {
	d := webhookOf(t)
	sleep := d.Spec.Template.Spec.Containers[0].Lifecycle.PreStop.Sleep.Seconds
	if grace := *d.Spec.Template.Spec.TerminationGracePeriodSeconds; grace <= sleep+managerShutdown {
		t.Errorf("killed after %d s, but it may take %d s and %d s", grace, sleep, managerShutdown)
	}
}

// TestWebhookIsSpread over nodes by force, in a way that one node can hold all
// replicas and that a rollout does not count the replicas that go.
func TestWebhookIsSpread(t *testing.T) {
	for _, c := range webhookOf(t).Spec.Template.Spec.TopologySpreadConstraints {
		if c.TopologyKey != corev1.LabelHostname {
			continue
		}
		if c.WhenUnsatisfiable != corev1.DoNotSchedule || c.MinDomains != nil ||
			c.NodeTaintsPolicy == nil || *c.NodeTaintsPolicy != corev1.NodeInclusionPolicyHonor ||
			!slices.Equal(c.MatchLabelKeys, []string{appsv1.DefaultDeploymentUniqueLabelKey}) {
			t.Errorf("the spread over nodes is %+v", c)
		}
		return
	}
	t.Error("all replicas may be on one node")
}

func webhookOf(t *testing.T) *appsv1.Deployment {
	t.Helper()
	for _, o := range objects(t, variant{}) {
		if d, ok := o.Object.(*appsv1.Deployment); ok {
			return d
		}
	}
	t.Fatal("no Deployment is rendered")
	return nil
}

// TestImagePullSecretsReachEveryPod: a private registry holds all images or none.
func TestImagePullSecretsReachEveryPod(t *testing.T) {
	for _, o := range objects(t, variant{args: []string{"--set", "imagePullSecrets[0].name=registry"}}) {
		if pod, ok := podOf(o); ok && (len(pod.ImagePullSecrets) != 1 || pod.ImagePullSecrets[0].Name != "registry") {
			t.Errorf("%s cannot pull from a private registry", o)
		}
	}
}

// TestOnlyOneContainerWritesTheNetworkConfiguration: the agent, which reads packets and
// the API, cannot put programs on the node, and what can has no right but that.
func TestOnlyOneContainerWritesTheNetworkConfiguration(t *testing.T) {
	for _, set := range []string{"enforcer.cni.enabled=true", "enforcer.cni.remove=true"} {
		all := objects(t, variant{args: []string{"--set", set}})
		pod, _ := podOf(all[slices.IndexFunc(all, isEnforcer)])
		writers := 0
		for _, c := range pod.Containers {
			for _, m := range c.VolumeMounts {
				if strings.HasPrefix(m.Name, "cni-") {
					writers++
					if c.Name != "cni" || len(c.SecurityContext.Capabilities.Add) > 0 {
						t.Errorf("%s: container %s with %v mounts %s", set, c.Name, c.SecurityContext.Capabilities.Add, m.MountPath)
					}
				}
			}
		}
		if writers != 2 {
			t.Errorf("%s: %d directories are mounted", set, writers)
		}
	}
}
