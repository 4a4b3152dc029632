package cli_test

import (
	"strings"
	"testing"
)

const manifestsOfWeb = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: prod}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: prod}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: i}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: prod}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: prod}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{}]}
---
`

// podsOfWeb are as a dump of the cluster has them.
const podsOfWeb = `
apiVersion: v1
kind: Pod
metadata:
  name: web-6d4f-x1
  namespace: prod
  uid: "1"
  labels: {app: web, pod-template-hash: 6d4f}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-6d4f, uid: "2", controller: true}]
spec: {containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: db-0
  namespace: prod
  uid: "3"
  labels: {app: db, apps.kubernetes.io/pod-index: "0", statefulset.kubernetes.io/pod-name: db-0}
  ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, uid: "4", controller: true}]
spec: {containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}]}
---
`

// Manifests and a dump of the cluster that runs them have the same workloads.
func TestManifestsAndTheirDumpDoNotDiffer(t *testing.T) {
	manifests, dump := file(t, "m.yaml", manifestsOfWeb), file(t, "dump.yaml", manifestsOfWeb+podsOfWeb)
	for _, args := range [][]string{{"--from", manifests, "--to", dump}, {"--from", dump, "--to", manifests}} {
		for _, more := range [][]string{nil, {"--all"}} {
			_, out, errs := run(t, "", append(append([]string{"diff"}, args...), more...)...)
			if !strings.Contains(out, "nothing is opened or closed") {
				t.Errorf("%q %q\n%s%s", args, more, out, errs)
			}
		}
	}
}

// A change of a template is shown, also for pods that run.
func TestAChangedTemplateDiffersFromTheDump(t *testing.T) {
	changed := strings.ReplaceAll(manifestsOfWeb, "Labels: {app: web}}\n  template: {metadata: {labels: {app: web}}", "Labels: {app: web}}\n  template: {metadata: {labels: {app: web, tier: x}}")
	changed = strings.Replace(changed, "from: [{podSelector: {matchLabels: {app: web}}}]", "from: [{podSelector: {matchLabels: {tier: x}}}]", 1)
	_, out, errs := run(t, "", "diff", "--from", file(t, "dump.yaml", strings.Replace(manifestsOfWeb, "from: [{podSelector: {matchLabels: {app: web}}}]", "from: [{podSelector: {matchLabels: {tier: x}}}]", 1)+podsOfWeb),
		"--to", file(t, "m.yaml", changed))
	if !strings.Contains(out, "opened (1)") || !strings.Contains(out, "prod/web") || !strings.Contains(out, "5432") {
		t.Errorf("%s%s", out, errs)
	}
}
