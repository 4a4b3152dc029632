package state_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// objects are those of a text of manifests.
func objects(t *testing.T, text string) map[state.Key]client.Object {
	t.Helper()
	read, errs := manifest.Reader{Namespace: "default", Stdin: strings.NewReader(text)}.Read("-")
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	out := map[state.Key]client.Object{}
	for _, o := range read {
		for _, v := range []client.Object{o.Value, o.Context} {
			if v != nil {
				out[state.KeyOf(o.Kind, v)] = v
			}
		}
	}
	return out
}

func names(pods []*compile.Pod) []string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Namespace+"/"+p.Name)
	}
	slices.Sort(out)
	return out
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop%s}
spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: x}]}}}
---
`

func replicaSet(name string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: %s, namespace: shop, uid: r-%[1]s, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: d, controller: true}]}
spec: {replicas: %d, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: x}]}}}
---
`, name, replicas)
}

// pod is one that the owner, given as kind/name, made; labels are in YAML.
func pod(name, owner, labels, phase string) string {
	kind, of, _ := strings.Cut(owner, "/")
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop, uid: p-%[1]s, labels: {%s}, ownerReferences: [{apiVersion: x/v1, kind: %s, name: %s, uid: o, controller: true}]}
spec: {containers: [{name: c, image: x}]}
status: {phase: %s}
---
`, name, labels, kind, of, phase)
}

const cronJob = `
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop, uid: c}
spec: {schedule: "0 1 * * *", jobTemplate: {spec: {template: {metadata: {labels: {app: nightly}}, spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}}}
---
`

const job = `
apiVersion: batch/v1
kind: Job
metadata: {name: nightly-29000000, namespace: shop, uid: j, ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: nightly, uid: c, controller: true}]}
spec: {template: {metadata: {labels: {app: nightly}}, spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}
---
`

// A dump of a cluster has a workload, what it made, and what that made: they are the same pods.
func TestAWorkloadAndWhatItMadeCountOnce(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"a Deployment alone":                     {fmt.Sprintf(deployment, ""), []string{"shop/deployment/web"}},
		"a ReplicaSet that is scaled down":       {fmt.Sprintf(deployment, "") + replicaSet("web-1", 0) + replicaSet("web-2", 2), []string{"shop/deployment/web"}},
		"one whose Deployment is not there":      {replicaSet("web-1", 0), nil},
		"one with replicas of its own":           {replicaSet("web-1", 1), []string{"shop/replicaset/web-1"}},
		"pods by ReplicaSets":                    {fmt.Sprintf(deployment, "") + replicaSet("web-1", 0) + replicaSet("web-2", 1) + pod("web-2-a", "ReplicaSet/web-2", "app: web", "Running"), []string{"shop/web-2-a"}},
		"pods whose ReplicaSets are not there":   {fmt.Sprintf(deployment, "") + pod("web-7f-a", "ReplicaSet/web-7f", "app: web, pod-template-hash: 7f", "Running"), []string{"shop/web-7f-a"}},
		"a Deployment that is scaled to none":    {strings.Replace(fmt.Sprintf(deployment, ", uid: d"), "spec: {selector", "spec: {replicas: 0, selector", 1), nil},
		"a manifest with no replicas yet":        {strings.Replace(fmt.Sprintf(deployment, ""), "spec: {selector", "spec: {replicas: 0, selector", 1), []string{"shop/deployment/web"}},
		"a CronJob and its Job":                  {cronJob + job, []string{"shop/cronjob/nightly"}},
		"a CronJob, its Job and its pod":         {cronJob + job + pod("n-a", "Job/nightly-29000000", "app: nightly", "Running"), []string{"shop/n-a"}},
		"a CronJob's pod whose Job is not there": {cronJob + pod("n-a", "Job/nightly-29000000", "app: nightly", "Running"), []string{"shop/n-a"}},
		"a CronJob whose last pod is done":       {cronJob + job + pod("n-a", "Job/nightly-29000000", "app: nightly", "Succeeded"), []string{"shop/cronjob/nightly", "shop/n-a"}},
		"a Job that is done":                     {strings.TrimSuffix(job, "---\n") + "status: {conditions: [{type: Complete, status: \"True\"}]}\n", nil},
		"a ReplicaSet of what is not read here":  {strings.Replace(replicaSet("web-1", 1), "kind: Deployment", "kind: Rollout", 1), []string{"shop/replicaset/web-1"}},
		"a pod of a Rollout beside a Deployment": {fmt.Sprintf(deployment, "") + strings.Replace(replicaSet("web-1", 1), "kind: Deployment", "kind: Rollout", 1) + pod("web-1-a", "ReplicaSet/web-1", "app: web, pod-template-hash: \"1\"", "Running"), []string{"shop/deployment/web", "shop/web-1-a"}},
	} {
		s := state.State{}.With(objects(t, c.text))
		if got := names(s.Snapshot(policy.Defaults{}).Pods); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestPodsOfAWorkloadAreFoundByAllItsOwners(t *testing.T) {
	s := state.State{}.With(objects(t, pod("n-a", "Job/nightly-29000000", "app: nightly", "Running")+pod("web-7f-a", "ReplicaSet/web-7f", "pod-template-hash: 7f", "Running")))
	m := s.Model(policy.Defaults{})
	for _, c := range [][3]string{{"CronJob", "nightly", "n-a"}, {"Job", "nightly-29000000", "n-a"}, {"Deployment", "web", "web-7f-a"}, {"ReplicaSet", "web-7f", "web-7f-a"}} {
		if got := m.PodsOf(c[0], "shop", c[1]); !slices.Equal(got, []string{c[2]}) {
			t.Errorf("pods of %s %s: %q", c[0], c[1], got)
		}
	}
}

// The service account has a second name, which the API server copies to the first.
func TestTheAliasOfAServiceAccountIsOne(t *testing.T) {
	for _, text := range []string{
		"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {serviceAccount: pg, containers: [{name: c, image: x}]}\n",
		"apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {template: {spec: {serviceAccount: pg, restartPolicy: Never, containers: [{name: c, image: x}]}}}\n",
		"apiVersion: v1\nkind: ReplicationController\nmetadata: {name: j}\nspec: {template: {spec: {serviceAccount: pg, containers: [{name: c, image: x}]}}}\n",
	} {
		pods := state.State{}.With(objects(t, text)).Snapshot(policy.Defaults{}).Pods
		if len(pods) != 1 || pods[0].ServiceAccount != "pg" {
			t.Errorf("%+v", pods)
		}
	}
}

func labelsOf(m *state.Model) map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, p := range m.Snapshot.Pods {
		out[p.Name] = p.Labels
	}
	return out
}

func openKeys(m *state.Model, pod string) []string {
	var out []string
	for _, l := range m.Open[pod] {
		out = append(out, l.Key)
	}
	slices.Sort(out)
	return out
}

// Stand-ins have the labels that the controller of their kind sets.
func TestStandInsHaveTheLabelsOfTheirKind(t *testing.T) {
	const set = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec: {replicas: 3, ordinals: {start: 5}, serviceName: db, selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: x}]}}}
`
	got := labelsOf(state.State{}.With(objects(t, set)).Model(policy.Defaults{}))
	for i, name := range []string{"statefulset/db", "statefulset/db#2", "statefulset/db#3"} {
		want := map[string]string{"app": "db", "statefulset.kubernetes.io/pod-name": fmt.Sprintf("db-%d", 5+i), "apps.kubernetes.io/pod-index": fmt.Sprint(5 + i)}
		if !maps.Equal(got[name], want) {
			t.Errorf("%s has %v, want %v", name, got[name], want)
		}
	}
	single := strings.Replace(job, ", ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: nightly, uid: c, controller: true}]", "", 1)
	m := state.State{}.With(objects(t, single)).Model(policy.Defaults{})
	want := map[string]string{"app": "nightly", "job-name": "nightly-29000000", "batch.kubernetes.io/job-name": "nightly-29000000"}
	if got := labelsOf(m)["job/nightly-29000000"]; !maps.Equal(got, want) {
		t.Errorf("the Job's pod has %v, want %v", got, want)
	}
	if got := openKeys(m, "shop/job/nightly-29000000"); !slices.Equal(got, []string{"batch.kubernetes.io/controller-uid", "controller-uid"}) {
		t.Errorf("open of the Job's pod: %q", got)
	}
	m = state.State{}.With(objects(t, cronJob)).Model(policy.Defaults{})
	for _, l := range m.Open["shop/cronjob/nightly"] {
		if l.Key == "job-name" && (!l.Always || !l.Accepts("nightly-29000001") || l.Accepts("nightly") || l.Accepts("other-29000001") || l.Accepts("nightly-x")) {
			t.Errorf("%+v", l)
		}
	}
	if got := openKeys(m, "shop/cronjob/nightly"); !slices.Contains(got, "job-name") || !slices.Contains(got, "batch.kubernetes.io/job-name") {
		t.Errorf("open of the CronJob's pod: %q", got)
	}
}

// What a controller, an operator or a sidecar gave a pod stays where a manifest leaves the template as it was.
func TestRunningPodsKeepTheirLabels(t *testing.T) {
	running := fmt.Sprintf(deployment, ", uid: d") + pod("web-7f-a", "ReplicaSet/web-7f", "app: web, pod-template-hash: 7f, role: leader", "Running")
	base := state.New(objects(t, running))
	unchanged := labelsOf(base.With(objects(t, fmt.Sprintf(deployment, ""))).Model(policy.Defaults{}))["web-7f-a"]
	if want := map[string]string{"app": "web", "pod-template-hash": "7f", "role": "leader"}; !maps.Equal(unchanged, want) {
		t.Errorf("the same template: %v, want %v", unchanged, want)
	}
	m := base.With(objects(t, strings.ReplaceAll(fmt.Sprintf(deployment, ""), "app: web", "tier: front"))).Model(policy.Defaults{})
	if got, want := labelsOf(m)["web-7f-a"], map[string]string{"tier": "front", "pod-template-hash": "7f", "role": "leader"}; !maps.Equal(got, want) {
		t.Errorf("another template: %v, want %v", got, want)
	}
	if got := openKeys(m, "shop/web-7f-a"); !slices.Equal(got, []string{"role"}) {
		t.Errorf("open: %q, want the label that nobody knows the setter of", got)
	}
}

// A selector for labels that something adds when a pod runs finds a stand-in with all of them; where it asks for
// what nothing adds, or for a value that cannot be, it finds none.
func TestSelectorsOnRuntimeLabelsFindAStandIn(t *testing.T) {
	const database = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec: {selector: {matchLabels: {app: db}}, serviceName: db, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: x}]}}}
---
`
	const selecting = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec: {podSelector: {matchLabels: {%s}}}
`
	for _, c := range []struct {
		name, workload, selector string
		found                    bool
	}{
		{"the role of a primary", database, "app: db, role: primary", true},
		{"two labels of operators", database, "app: db, cnpg.io/instanceRole: primary, spilo-role: master", true},
		{"an operator's and one of the template that is otherwise", database, "app: web, cnpg.io/instanceRole: primary", false},
		{"a Job of a CronJob", cronJob + "---\n", "job-name: nightly-28912345", true},
		{"a Job of another CronJob", cronJob + "---\n", "job-name: weekly-28912345", false},
		{"the hash of a template", fmt.Sprintf(deployment, ""), "app: web, pod-template-hash: 5d9c", true},
		{"the hash, of a DaemonSet", fmt.Sprintf(deployment, ""), "app: web, controller-revision-hash: 5d9c", false},
		{"what nothing adds", fmt.Sprintf(deployment, ""), "app: web, team: blue", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			snapshot := state.New(objects(t, c.workload+fmt.Sprintf(selecting, c.selector))).Snapshot(policy.Defaults{})
			selector := labels.SelectorFromSet(snapshot.NetworkPolicies[0].Spec.PodSelector.MatchLabels)
			found := slices.ContainsFunc(snapshot.Pods, func(p *compile.Pod) bool { return selector.Matches(labels.Set(p.Labels)) })
			if found != c.found {
				t.Errorf("found %v among %q, want %v", found, names(snapshot.Pods), c.found)
			}
		})
	}
}
