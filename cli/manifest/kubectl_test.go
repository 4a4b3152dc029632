package manifest_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tierwall/tierwall/cli/manifest"
)

func policies(names ...string) string {
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf(policy, n))
	}
	return strings.Join(out, "---\n")
}

// inUTF16 is a text with a byte order mark, as PowerShell's ">" writes it.
func inUTF16(order binary.AppendByteOrder, text string) string {
	out := order.AppendUint16(nil, 0xfeff)
	for _, u := range utf16.Encode([]rune(text)) {
		out = order.AppendUint16(out, u)
	}
	return string(out)
}

func inUTF32(order binary.AppendByteOrder, text string) string {
	out := order.AppendUint32(nil, 0xfeff)
	for _, r := range text {
		out = order.AppendUint32(out, uint32(r))
	}
	return string(out)
}

// What kubectl reads is read whole: every document of every encoding and separator.
func TestReadsEveryDocument(t *testing.T) {
	two := policies("a", "b")
	windows := strings.ReplaceAll(two, "\n", "\r\n")
	const list = `
apiVersion: v1
kind: List
items:
- &first
  apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: &meta {name: a, namespace: shop}
  spec: &spec {podSelector: {matchLabels: &labels {app: web}}}
- {<<: *first, metadata: {<<: *meta, name: b}, spec: {<<: *spec, podSelector: {matchLabels: {<<: *labels, app: db}}}}
`
	for name, text := range map[string]string{
		"UTF-16, little end":        inUTF16(binary.LittleEndian, two),
		"UTF-16, big end":           inUTF16(binary.BigEndian, two),
		"UTF-16 with Windows lines": inUTF16(binary.LittleEndian, windows),
		"UTF-32, little end":        inUTF32(binary.LittleEndian, two),
		"UTF-32, big end":           inUTF32(binary.BigEndian, windows),
		"UTF-8 with a mark":         "\xef\xbb\xbf" + two,
		"marks of joined files":     "\xef\xbb\xbf" + policies("a") + "---\n\xef\xbb\xbf" + policies("b"),
		"a comment on the marker":   strings.Replace(two, "---\n", "---# next\n", 1),
		"a comment behind a blank":  strings.Replace(two, "---\n", "--- # next\n", 1),
		"blanks behind the marker":  strings.Replace(two, "---\n", "---  \t\n", 1),
		"an end and a marker":       strings.Replace(two, "---\n", "...\n---\n", 1),
		"an end alone":              strings.Replace(two, "---\n", "...\n", 1),
		"lines that end in CR":      strings.ReplaceAll(two, "\n", "\r"),
		"lines that end in NEL":     strings.ReplaceAll(two, "\n", "\u0085"),
		"comments between":          "# one\n---\n# two\n---\n\n---\n" + two + "---\n# three\n",
		"null between":              "null\n---\n" + two + "---\n~\n",
		"merge keys with overrides": list,
		"JSON with markers":         `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"a"},"spec":{"podSelector":{}}}` + "\n---\n" + `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"b"},"spec":{"podSelector":{}}}`,
		"JSON and then YAML":        `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"a"},"spec":{"podSelector":{}}}` + "\n---\n" + policies("b"),
		"JSON with comments":        "{\"apiVersion\": \"v1\", \"kind\": \"List\", # all\n\"items\": [{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: {podSelector: {}}}, {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: b}, spec: {podSelector: {}}},]}",
		"lists in lists":            `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicyList","items":[{"metadata":{"name":"a"},"spec":{"podSelector":{}}}]},{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"b"},"spec":{"podSelector":{}}}]}]}`,
	} {
		file := filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml")
		reading := manifest.Reader{Namespace: "shop"}.ReadAll([]string{file}, nil)
		if got := ids(reading.Objects); len(reading.Errors) > 0 || !slices.Equal(got, []string{"NetworkPolicy shop/a", "NetworkPolicy shop/b"}) {
			t.Errorf("%s: %q, errors %v", name, got, reading.Errors)
		}
	}
}

// What a merge key brings counts less than what is written beside it.
func TestMergeKeysAreOverridden(t *testing.T) {
	text := "x: &base {kind: Namespace, apiVersion: v1}\n<<: *base\nmetadata: {name: a, labels: {<<: [&l {team: one, tier: web}, {tier: db, zone: z}], team: two}}\n"
	reading := manifest.Reader{}.ReadAll([]string{filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml")}, nil)
	if len(reading.Errors) != 1 || !strings.Contains(reading.Errors[0].Error(), "/x: unknown field") {
		t.Fatalf("%v", reading.Errors)
	}
	text = strings.Replace(text, "x: &base {kind: Namespace, apiVersion: v1}\n<<: *base", "kind: Namespace\napiVersion: v1", 1)
	reading = manifest.Reader{}.ReadAll([]string{filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml")}, nil)
	if len(reading.Errors) > 0 {
		t.Fatal(reading.Errors)
	}
	got := reading.Objects[0].Value.(*corev1.Namespace).Labels
	if got["team"] != "two" || got["tier"] != "web" || got["zone"] != "z" {
		t.Errorf("labels %v", got)
	}
	if line := reading.Objects[0].Line("/metadata/labels/zone"); line != 3 {
		t.Errorf("the merged label is on line %d", line)
	}
}

// What kubectl passes over although YAML does not is read, and said.
func TestWarnsOfWhatKubectlPassesOver(t *testing.T) {
	for name, text := range map[string]string{
		"an end without marker": strings.Replace(policies("a", "b"), "---\n", "...\n", 1),
		"lines that end in CR":  strings.ReplaceAll(policies("a", "b"), "\n", "\r"),
	} {
		reading := manifest.Reader{}.ReadAll([]string{filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml")}, nil)
		if len(reading.Warnings) != 1 || !strings.Contains(reading.Warnings[0].Error(), "kubectl does not read what follows") {
			t.Errorf("%s: warnings %v", name, reading.Warnings)
		}
	}
	for name, text := range map[string]string{
		"a marker in front": "--- # first\n" + policies("a"),
		"ends at markers":   strings.Replace(policies("a", "b"), "---\n", "...\n---\n", 1) + "...\n",
	} {
		reading := manifest.Reader{}.ReadAll([]string{filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml")}, nil)
		if len(reading.Warnings) > 0 {
			t.Errorf("%s: warnings %v", name, reading.Warnings)
		}
	}
}

func TestGeneratedNamesAreNoDuplicates(t *testing.T) {
	const job = "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: %s}\nspec: {template: {metadata: {labels: {app: %s}}, spec: {containers: []}}}\n---\n"
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {generateName: run-}\nspec: {containers: []}\n---\n"
	text := fmt.Sprintf(job, "seed-", "a") + fmt.Sprintf(job, "seed-", "b") + fmt.Sprintf(job, "seed-", "c") + pod + pod
	objects, errs := manifest.Reader{Namespace: "shop"}.Read(filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml"))
	if got := ids(objects); len(errs) > 0 || !slices.Equal(got, []string{"Job shop/seed-", "Job shop/seed-(2)", "Job shop/seed-(3)", "Pod shop/run-", "Pod shop/run-(2)"}) {
		t.Errorf("%q, %v", got, errs)
	}
}

// A repeated key is an error of what policy depends on: kubectl reads the last, in silence.
func TestRepeatedKeys(t *testing.T) {
	const np = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: a\nspec:\n  podSelector: {}\n"
	for name, c := range map[string]struct{ text, want string }{
		"YAML":             {np + "  podSelector: {matchLabels: {a: b}}\n", `x.yaml:7: is not YAML: key "podSelector" already set in map`},
		"a later document": {"# one\n---\n" + np + "  podSelector: {}\n", `x.yaml:9: is not YAML: key "podSelector" already set in map`},
		"JSON":             {`{"apiVersion":"v1","kind":"Namespace",` + "\n" + `"metadata":{"name":"a","name":"b"}}`, "x.yaml:2: Namespace b /metadata/name: duplicate field"},
	} {
		reading := manifest.Reader{}.ReadAll([]string{filepath.Join(written(t, map[string]string{"x.yaml": c.text}), "x.yaml")}, nil)
		if len(reading.Objects) > 0 || len(reading.Errors) != 1 || !strings.Contains(reading.Errors[0].Error(), c.want) {
			t.Errorf("%s: %v", name, reading.Errors)
		}
	}
	for _, text := range []string{
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {a: b, a: c}}\n",
		"apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  name: b\n",
	} {
		reading := manifest.Reader{}.ReadAll([]string{filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml")}, nil)
		if len(reading.Objects) != 1 || len(reading.Errors) > 0 || len(reading.Warnings) != 1 {
			t.Errorf("%q: errors %v, warnings %v", text, reading.Errors, reading.Warnings)
		}
	}
}

func TestFieldsOfOldDumpsAreLetBe(t *testing.T) {
	for _, more := range []string{"status: {}\n", "status: null\n", "status:\n  conditions: []\n"} {
		file := filepath.Join(written(t, map[string]string{"x.yaml": policies("a") + more}), "x.yaml")
		reading := manifest.Reader{}.ReadAll([]string{file}, nil)
		if len(reading.Objects) != 1 || len(reading.Errors) > 0 || len(reading.Warnings) != 1 || !strings.Contains(reading.Warnings[0].Error(), "/status") {
			t.Errorf("%q: errors %v, warnings %v", more, reading.Errors, reading.Warnings)
		}
		if _, ok := reading.Objects[0].Value.(*networkingv1.NetworkPolicy); !ok {
			t.Errorf("%q: %T", more, reading.Objects[0].Value)
		}
	}
}

// Aliases cost what the text is worth, whether they repeat much or little often.
func TestRepetitionIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, text := range map[string]string{
		"ten to the ninth":       "kind: A\n" + bomb(),
		"a long text, often":     "kind: A\nlong: &a " + long + "\nall: [" + strings.Repeat("*a,", 5000) + "]\n",
		"as JSON that is YAML":   `{"kind": "A", "long": &a "` + long + `", "all": [` + strings.Repeat("*a,", 5000) + "]}\n",
		"what contains itself":   "kind: A\nall: &a [*a]\n",
		"merges of merges":       "kind: A\n" + strings.Replace(bomb(), "a0: &a0 [x,x,x,x,x,x,x,x,x,x]", "a0: &a0 [{"+long[:1000]+": y}]", 1),
		"too many lists in list": strings.Repeat(`{"apiVersion":"v1","kind":"List","items":[`, 40) + strings.Repeat("]}", 40),
	} {
		reading := manifest.Reader{}.ReadAll([]string{filepath.Join(written(t, map[string]string{"x.yaml": text}), "x.yaml")}, nil)
		if len(reading.Errors) != 1 || len(reading.Objects) > 0 {
			t.Errorf("%s: %d objects, errors %v", name, len(reading.Objects), reading.Errors)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{policies("a", "b"), inUTF16(binary.LittleEndian, policies("a")), "{\"kind\": \"List\"}", "a: &a [*a]\n", "---# x\n...\n--- y\n", "{\"a\":1}\n---\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		reading := manifest.Reader{Stdin: bytes.NewReader(text)}.ReadAll([]string{"-"}, nil)
		if len(reading.Objects)+len(reading.Errors) == 0 {
			t.Errorf("%q is passed over without a word", text)
		}
		for _, o := range reading.Objects {
			if line := o.Line("/metadata/name"); line < 1 || line > 1+bytes.Count(text, []byte("\n"))+bytes.Count(text, []byte("\r"))+len(text) {
				t.Errorf("%s is on line %d", o.ID(), line)
			}
		}
	})
}
