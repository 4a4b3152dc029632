package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli"
)

// file is a file with a text.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const otherEngines = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: a}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: b}
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: {name: default}
---
apiVersion: firewall.example.com/v1
kind: EdgeNetworkPolicy
metadata: {name: c, namespace: prod}
---
`

// Policies that other engines enforce are told by every command, and never count as read.
func TestPoliciesOfOtherEnginesAreTold(t *testing.T) {
	more := file(t, "more.yaml", otherEngines)
	want := []string{"2 GlobalNetworkPolicies (projectcalico.org) here are not enforced by tierwall",
		"1 BaselineAdminNetworkPolicy (policy.networking.k8s.io) here is not enforced by tierwall",
		"1 EdgeNetworkPolicy (firewall.example.com) here is not enforced by tierwall"}
	for _, args := range [][]string{
		{"check", "-f", shop, "-f", more}, {"diff", "-f", shop, "-f", more}, {"diff", "--from", shop, "--to", more},
		{"explain", "-f", shop, "-f", more, "--from", "prod/deploy/api", "--to", "prod/sts/db", "--port", "5432"},
	} {
		_, out, errs := run(t, "", args...)
		for _, w := range want {
			if !strings.Contains(out+errs, "warning: "+w) {
				t.Errorf("%q does not say %q\n%s%s", args, w, out, errs)
			}
		}
		_, out, _ = run(t, "", append(args, "-o", "json")...)
		var document struct {
			Unenforced []struct {
				Group, Kind string
				Count       int
			}
		}
		if err := json.Unmarshal([]byte(out), &document); err != nil || len(document.Unenforced) != 3 || document.Unenforced[2].Count != 2 {
			t.Errorf("%q: %v, %+v", args, err, document)
		}
	}
	_, out, _ := run(t, "", "check", "-f", more)
	if !strings.Contains(out, "4 objects, 0 policies") {
		t.Errorf("they count as read:\n%s", out)
	}
	if _, out, _ := run(t, "", "check", "-f", shop, "-f", more, "-o", "sarif"); strings.Count(out, "not enforced by tierwall") != 3 {
		t.Errorf("SARIF does not say it:\n%s", out)
	}
}

// What is read otherwise than it is written, and what is not, is told.
func TestWhatIsLeftOutIsTold(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"a.yaml":        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: prod}\nspec: {podSelector: {}}\nstatus: {}\n",
		"values.yaml":   "replicas: 2\n",
		"skipped.yaml":  "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n",
		"rollout.yaml":  "apiVersion: example.com/v1\nkind: Fleet\nmetadata: {name: fleet, namespace: prod}\nspec: {pods: {metadata: {labels: {app: fleet}}, spec: {containers: []}}}\n",
		"comments.yaml": "# nothing\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-f", folder, "--exclude", "skipped.yaml", "--template", "Fleet=spec.pods"}
	for _, command := range [][]string{{"check"}, {"diff"}, {"explain", "--from", "prod/fleet/fleet", "--to", "192.0.2.1", "--port", "80"}} {
		_, out, errs := run(t, "", append(command, args...)...)
		for _, w := range []string{"/status: is not known any more", "values.yaml: is no Kubernetes object", "comments.yaml: there is no object in it", "1 file or folders"} {
			if !strings.Contains(out+errs, w) {
				t.Errorf("%q does not say %q\n%s%s", command, w, out, errs)
			}
		}
	}
	if status, _, errs := run(t, "", "check", "-f", folder, "--template", "Fleet"); status != cli.Unusable || !strings.Contains(errs, "--template") {
		t.Errorf("a bad --template: exit status %d, %s", status, errs)
	}
}
