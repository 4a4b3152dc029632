package manifest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tierwall/tierwall/cli/manifest"
)

// written puts files into a folder.
func written(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func ids(objects []*manifest.Object) []string {
	out := []string{}
	for _, o := range objects {
		out = append(out, o.ID())
	}
	return out
}

const policy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: %s
spec:
  podSelector: {}
`

func TestDocumentsAndLists(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"one document":          {fmt.Sprintf(policy, "a"), []string{"NetworkPolicy shop/a"}},
		"a marker in front":     {"---\n" + fmt.Sprintf(policy, "a"), []string{"NetworkPolicy shop/a"}},
		"two documents":         {fmt.Sprintf(policy, "a") + "---\n" + fmt.Sprintf(policy, "b"), []string{"NetworkPolicy shop/a", "NetworkPolicy shop/b"}},
		"comments between":      {"# x\n---\n# y\n--- # z\n" + fmt.Sprintf(policy, "a") + "...\n---\n", []string{"NetworkPolicy shop/a"}},
		"text behind a marker":  {"--- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n", []string{"Namespace a"}},
		"lines of Windows":      {strings.ReplaceAll("---\n"+fmt.Sprintf(policy, "a")+"---\n"+fmt.Sprintf(policy, "b"), "\n", "\r\n"), []string{"NetworkPolicy shop/a", "NetworkPolicy shop/b"}},
		"a byte order mark":     {"\ufeff" + fmt.Sprintf(policy, "a"), []string{"NetworkPolicy shop/a"}},
		"dashes in a text":      {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  b: |\n    ---\n    x\n", []string{"ConfigMap a"}},
		"JSON":                  {`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}`, []string{"Namespace a"}},
		"JSON, one after other": {`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}` + "\n" + `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"b"}}`, []string{"Namespace a", "Namespace b"}},
		"YAML in braces":        {"{apiVersion: v1, kind: Namespace, metadata: {name: a}}\n", []string{"Namespace a"}},
		"a List":                {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n- {apiVersion: v1, kind: Secret, metadata: {name: b, namespace: c}}\n", []string{"Namespace a", "Secret c/b"}},
		"a typed list": {`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicyList","items":[{"metadata":{"name":"a","namespace":"prod"},"spec":{"podSelector":{}}}]}`,
			[]string{"NetworkPolicy prod/a"}},
		"a list in a list":   {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Namespace, metadata: {name: a}}]}\n", []string{"Namespace a"}},
		"another's policies": {"apiVersion: cilium.io/v2\nkind: NetworkPolicy\nmetadata: {name: a, namespace: b}\nspec: {whatever: true}\n", []string{"NetworkPolicy b/a"}},
	} {
		folder := written(t, map[string]string{"x.yaml": c.text})
		objects, errs := manifest.Reader{Namespace: "shop"}.Read(folder)
		if len(errs) > 0 || !slices.Equal(ids(objects), c.want) {
			t.Errorf("%s: %q, errors %v; want %q", name, ids(objects), errs, c.want)
		}
	}
}

func TestWhatTheAPIServerDefaultsIsThere(t *testing.T) {
	folder := written(t, map[string]string{"x.yaml": fmt.Sprintf(policy, "a") + "  ingress: [{ports: [{port: 80}]}]\n  egress: [{}]\n"})
	objects, errs := manifest.Reader{Namespace: "shop"}.Read(folder)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	np := objects[0].Value.(*networkingv1.NetworkPolicy)
	if np.Namespace != "shop" || len(np.Spec.PolicyTypes) != 2 || *np.Spec.Ingress[0].Ports[0].Protocol != "TCP" {
		t.Errorf("%+v", np)
	}
}

// Every mistake is told with file, line, object and field, and stops nothing else.
func TestMistakesNameTheirPlace(t *testing.T) {
	const np = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: a\n  namespace: b\n"
	for name, c := range map[string]struct{ text, want string }{
		"no YAML":                 {np + "spec:\n  podSelector: {\n", "x.yaml:7: is not YAML:"},
		"a tab":                   {"# a\n---\n" + np + "spec:\n\tpodSelector: {}\n", "x.yaml:9: is not YAML: found character"},
		"a template":              {"---\n{{ if .Values.x }}\n" + np, "Render it first"},
		"an unknown field":        {np + "spec:\n  podSelector: {}\n  ingress:\n  - from:\n    - podSelecter: {}\n", "x.yaml:10: NetworkPolicy b/a /spec/ingress/0/from/0/podSelecter: unknown field"},
		"a field of another case": {np + "Spec:\n  podSelector: {}\n", "x.yaml:6: NetworkPolicy b/a /Spec: unknown field"},
		"a text for a list":       {np + "spec:\n  podSelector: {}\n  ingress: all\n", "x.yaml:8: NetworkPolicy b/a /spec/ingress: is a string where a list is wanted"},
		"a list for a text":       {np + "spec:\n  podSelector: {matchLabels: {a: [b]}}\n", "is an array where a text is wanted"},
		"a number for a text":     {np + "spec:\n  podSelector: {matchLabels: {a: 1}}\n", "x.yaml:7: NetworkPolicy b/a /spec/podSelector/matchLabels"},
		"an unquoted name":        {"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: on\n", "x.yaml:4: is no Kubernetes object: /metadata/name is a bool where a text is wanted"},
		"an unquoted yes":         {np + "spec:\n  podSelector: {matchLabels: {a: yes}}\n", "is a bool where a text is wanted"},
		"no kind":                 {"replicas: 3\n", "x.yaml:1: is no Kubernetes object: it has no apiVersion or no kind"},
		"a list of texts":         {"- a\n- b\n", "x.yaml:1: is no Kubernetes object"},
		"an old version":          {"apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: a}\n", "x.yaml:1: NetworkPolicy a: NetworkPolicy is not read in version extensions/v1beta1, only in networking.k8s.io/v1"},
		"no name":                 {"apiVersion: v1\nkind: Namespace\nmetadata: {}\n", "x.yaml:3: Namespace has no name"},
		"JSON that ends":          {"{\"apiVersion\": \"v1\",\n\"kind\": \"Namespace\",\n", "x.yaml:2: is not JSON: unexpected EOF"},
		"JSON with a comma":       {"{\"apiVersion\": \"v1\",\n\"kind\": \"Namespace\",\n,}", "x.yaml:3: is not JSON: invalid character"},
		"in a list":               {"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: b}\n  specs: {}\n", "x.yaml:10: Namespace b /specs: unknown field"},
		"two of one name":         {np + "spec: {podSelector: {}}\n---\n" + np + "spec: {podSelector: {matchLabels: {a: b}}}\n", "x.yaml:8: NetworkPolicy b/a: is also in "},
		"an alias bomb":           {bomb(), "is not YAML: document contains excessive aliasing"},
		"no text":                 {"\x00\x01", "is not YAML: control characters are not allowed"},
	} {
		folder := written(t, map[string]string{"x.yaml": c.text, "y.yaml": fmt.Sprintf(policy, "sound")})
		objects, errs := manifest.Reader{Namespace: "shop"}.Read(filepath.Join(folder, "x.yaml"), filepath.Join(folder, "y.yaml"))
		if len(errs) == 0 || !strings.Contains(errs[0].Error(), c.want) || !strings.HasPrefix(errs[0].Error(), folder) {
			t.Errorf("%s: errors %q, want %q", name, errs, c.want)
		}
		if !slices.Contains(ids(objects), "NetworkPolicy shop/sound") {
			t.Errorf("%s: the other file is not read", name)
		}
	}
}

// An object that two files have alike is read once, with a warning that names both files.
func TestEqualDuplicatesAreWarnings(t *testing.T) {
	const rollout = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r, namespace: shop}\n" +
		"spec: {template: {metadata: {labels: {app: r}}, spec: {containers: [{name: c, image: i}]}}}\n"
	for name, c := range map[string]struct {
		first, second string
		isError       bool
	}{
		"equal policies":                  {fmt.Sprintf(policy, "a"), "# comment\n" + fmt.Sprintf(policy, "a"), false},
		"defaults written out":            {"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", "kind: Namespace\napiVersion: v1\nmetadata: {name: a, labels: {}}\n", false},
		"equal objects of a template":     {rollout, rollout, false},
		"policies that differ":            {fmt.Sprintf(policy, "a"), fmt.Sprintf(policy, "a") + "  ingress: [{}]\n", true},
		"objects that differ in template": {rollout, strings.Replace(rollout, "app: r", "app: s", 1), true},
	} {
		folder := written(t, map[string]string{"x.yaml": c.first, "y.yaml": c.second})
		reading := manifest.Reader{Namespace: "shop"}.ReadAll([]string{folder}, nil)
		told, other := reading.Warnings, reading.Errors
		if c.isError {
			told, other = other, told
		}
		if len(told) != 1 || len(other) > 0 {
			t.Errorf("%s: warnings %q, errors %q", name, reading.Warnings, reading.Errors)
			continue
		}
		if text := told[0].Error(); !strings.Contains(text, "y.yaml") || !strings.Contains(text, "x.yaml") {
			t.Errorf("%s: %q does not name both files", name, text)
		}
		if !c.isError && len(reading.Objects) != 1 {
			t.Errorf("%s: %d objects, want 1", name, len(reading.Objects))
		}
	}
}

// bomb is a document that is small as text and large as a value.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	return b.String()
}

func TestObjectsThatTheAPIServerWouldNotTake(t *testing.T) {
	large := fmt.Sprintf(policy, "large") + "  ingress:\n" + strings.Repeat("  - from: [{podSelector: {matchLabels: {app: a-label-of-some-length}}}]\n", 10<<20/70)
	folder := written(t, map[string]string{"x.yaml": large, "y.yaml": fmt.Sprintf(policy, "sound")})
	objects, errs := manifest.Reader{Namespace: "shop"}.Read(folder)
	if len(objects) != 1 || len(errs) != 1 || !strings.Contains(errs[0].Error(), "x.yaml:1: has 10.") {
		t.Errorf("%d objects, errors %v", len(objects), errs)
	}
}

// A list may be larger than any object: it is what kubectl get writes.
func TestListsMayBeLarge(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`{"apiVersion": "v1", "kind": "List", "items": [`)
	for i := range 30_000 {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n-%d", "labels": {"some": "label-of-some-length-%d"}}}`, i, i)
	}
	b.WriteString("]}")
	objects, errs := manifest.Reader{}.Read(filepath.Join(written(t, map[string]string{"x.json": b.String()}), "x.json"))
	if len(objects) != 30_000 || len(errs) > 0 {
		t.Errorf("%d objects of %d bytes, errors %v", len(objects), b.Len(), errs)
	}
}

func TestFoldersThatGoInCircles(t *testing.T) {
	folder := written(t, map[string]string{"a/x.yaml": fmt.Sprintf(policy, "x"), "b/y.yml": fmt.Sprintf(policy, "other"), ".git/z.yaml": "{", "a/notes.txt": "no manifest"})
	for from, to := range map[string]string{"a/up": "..", "b/a": "../a", "self": "self", "gone.yaml": "nowhere.yaml", "gone": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(folder, from)); err != nil {
			t.Fatal(err)
		}
	}
	objects, errs := manifest.Reader{Namespace: "shop"}.Read(filepath.Join(folder, "a"))
	if got := ids(objects); !slices.Equal(got, []string{"NetworkPolicy shop/other", "NetworkPolicy shop/x"}) {
		t.Errorf("%q", got)
	}
	if !slices.ContainsFunc(errs, func(e manifest.Error) bool { return strings.HasSuffix(e.File, "gone.yaml") }) {
		t.Errorf("the link that leads nowhere is not told: %v", errs)
	}
}

func TestPathsThatCannotBeRead(t *testing.T) {
	folder := written(t, map[string]string{"empty/notes.txt": ""})
	for path, want := range map[string]string{
		filepath.Join(folder, "nowhere"): "cannot be read: no such file or directory",
		filepath.Join(folder, "empty"):   "there is no .yaml, .yml or .json file in this folder",
	} {
		objects, errs := manifest.Reader{}.Read(path)
		if len(objects) > 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("%s: %v", path, errs)
		}
	}
}

// root reads what nobody else may, so that the file is one that nobody can read.
func TestAFileThatCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "x.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/mem", filepath.Join(folder, "mem.yaml")); err != nil {
		t.Fatal(err)
	}
	_, errs := manifest.Reader{}.Read(folder)
	if len(errs) == 0 || !strings.Contains(errs[0].Error(), "mem.yaml: cannot be read:") {
		t.Errorf("%v", errs)
	}
}

func TestStandardInput(t *testing.T) {
	objects, errs := manifest.Reader{Namespace: "shop", Stdin: strings.NewReader(fmt.Sprintf(policy, "a"))}.Read("-")
	if len(errs) > 0 || !slices.Equal(ids(objects), []string{"NetworkPolicy shop/a"}) || objects[0].File != "-" {
		t.Errorf("%v, %v", ids(objects), errs)
	}
}

func TestLinesOfFields(t *testing.T) {
	text := "# x\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec:\n  podSelector:\n    matchLabels:\n      tierwall.io/tier-role: data\n  ingress:\n  - {}\n  - from:\n    - podSelector: {}\n"
	objects, errs := manifest.Reader{Namespace: "shop"}.Read(filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for field, want := range map[string]int{
		"": 3, "/spec": 6, "/spec/podSelector/matchLabels/tierwall.io~1tier-role": 9, "/spec/ingress/1": 12,
		"/spec/ingress/1/from/0/podSelector": 13, "/spec/ingress/7": 10, "/spec/egress": 6, "/nothing": 3,
	} {
		if got := objects[0].Line(field); got != want {
			t.Errorf("%q is on line %d, want %d", field, got, want)
		}
	}
}
