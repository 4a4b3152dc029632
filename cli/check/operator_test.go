package check_test

import (
	"strings"
	"testing"
)

const operated = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: main, namespace: monitoring}
spec:
  podSelector: {matchLabels: {app.kubernetes.io/name: prometheus}}
  ingress:
  - from: [{podSelector: {matchLabels: {app.kubernetes.io/name: alertmanager}}}]
    ports: [{port: 9090}]
---
`

// A selector that matches no pod of the manifests is not called dead where an operator may make such pods.
func TestSelectorsThatMayMatchOperatorPodsAreNotDead(t *testing.T) {
	for name, c := range map[string]struct {
		custom string
		known  bool
	}{
		"a Prometheus in the namespace":       {"apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nmetadata: {name: k8s, namespace: monitoring}\n", false},
		"an unknown kind":                     {"apiVersion: db.example.com/v1\nkind: Ledger\nmetadata: {name: l, namespace: monitoring}\n", false},
		"a Gateway":                           {"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: monitoring}\n", false},
		"no custom resource":                  {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: monitoring}\n", true},
		"a custom resource of other pods":     {"apiVersion: db.example.com/v1\nkind: Ledger\nmetadata: {name: l, namespace: shop}\n", true},
		"a kind that makes no pods":           {"apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {name: s, namespace: monitoring}\n", true},
		"a Role of Kubernetes itself":         {"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: monitoring}\n", true},
		"a policy that other engines enforce": {"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: monitoring}\n", true},
	} {
		r, err := checker(t).Check(t.Context(), written(t, operated+c.custom))
		if err != nil {
			t.Fatal(err)
		}
		claimed := 0
		for _, f := range r.Findings {
			if strings.Contains(f.Message, "no pod that exists") {
				claimed++
			}
		}
		if wantClaimed, wantNotes := map[bool]int{true: 2}[c.known], map[bool]int{false: 2}[c.known]; claimed != wantClaimed || len(r.Notes) != wantNotes {
			t.Errorf("%s: %d findings and notes %q, want %d and %d", name, claimed, r.Notes, wantClaimed, wantNotes)
		}
		for _, n := range r.Notes {
			if !strings.Contains(n.Message, "pods that an operator makes") {
				t.Errorf("%s: %q", name, n.Message)
			}
		}
	}
}

// A selector of namespaces by a label is not called dead where pods are in a namespace without a Namespace.
func TestSelectorsThatMayMatchUnknownNamespacesAreNotDead(t *testing.T) {
	const policy = `
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: untold, labels: {app: web}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [PEER], ports: [{port: 5432}]}]
`
	for peer, known := range map[string]bool{
		"{namespaceSelector: {matchLabels: {team: a}}}":                                             false,
		"{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: web}}}":     false,
		"{namespaceSelector: {matchLabels: {team: a, kubernetes.io/metadata.name: untold}}}":        false,
		"{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: mail}}}":    true,
		"{namespaceSelector: {matchLabels: {team: a, kubernetes.io/metadata.name: shop}}}":          true,
		"{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: elsewhere}}}":              true,
		"{podSelector: {matchLabels: {app: web}}}":                                                  true,
		"{namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}, podSelector: {}}": false,
	} {
		r, err := checker(t).Check(t.Context(), written(t, strings.Replace(policy, "PEER", peer, 1)))
		if err != nil {
			t.Fatal(err)
		}
		claimed := 0
		for _, f := range r.Findings {
			if strings.Contains(f.Message, "no pod that exists") {
				claimed++
			}
		}
		if (claimed > 0) != known || len(r.Notes) > 0 == known {
			t.Errorf("%s: %d findings, notes %q", peer, claimed, r.Notes)
		}
		for _, n := range r.Notes {
			if !strings.Contains(n.Message, "untold/web: the labels of namespace untold are not known") {
				t.Errorf("%s: %q", peer, n.Message)
			}
		}
	}
}
