package check_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tierwall/tierwall/cli/check"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/policy"
)

// shops writes the manifests of shops, one to a namespace and ten to a shop: three
// tiers with their Services and policies.
func shops(tb testing.TB, n int) string {
	tb.Helper()
	folder := tb.TempDir()
	for i := range n {
		var b bytes.Buffer
		ns := fmt.Sprintf("shop-%03d", i)
		fmt.Fprintf(&b, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {environment: prod}}\n", ns)
		for j, app := range []string{"web", "api", "db"} {
			fmt.Fprintf(&b, `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      serviceAccountName: %[2]s
      containers:
        - name: %[2]s
          image: example.com/%[2]s:1
          ports: [{name: main, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {app: %[2]s}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  podSelector: {matchLabels: {app: %[2]s}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from: [{podSelector: {matchLabels: {app: %[3]s}}}]
      ports: [{port: 8080}]
  egress:
    - to: [{podSelector: {matchLabels: {app: %[4]s}}}]
      ports: [{port: 8080}]
`, ns, app, []string{"api", "web", "api"}[j], []string{"api", "db", "web"}[j])
		}
		if err := os.WriteFile(filepath.Join(folder, ns+".yaml"), b.Bytes(), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return folder
}

// BenchmarkThousandManifests is all that a check does: reading, compiling the
// guardrails, and judging.
func BenchmarkThousandManifests(b *testing.B) {
	folder := shops(b, 100)
	for b.Loop() {
		objects, errs := manifest.Reader{}.Read(folder)
		if len(errs) > 0 || len(objects) != 1000 {
			b.Fatal(len(objects), errs)
		}
		guardrails, err := check.ChartGuardrails()
		if err != nil {
			b.Fatal(err)
		}
		c := &check.Checker{Guardrails: guardrails, Defaults: policy.Defaults{Exempt: []string{"kube-system"}}}
		result, err := c.Check(b.Context(), objects)
		if err != nil || result.Judged != 300 || result.Denials() > 0 {
			b.Fatal(err, result)
		}
	}
}
