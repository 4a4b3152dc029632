package chart

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is rendered to testdata instead of comparing it")

func TestLint(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			args := []string{"lint", "--strict", chartDir, "--kube-version", kubernetes}
			for i := 0; i < len(v.args); i += 2 {
				if v.args[i] == "--set" {
					args = append(args, v.args[i:i+2]...)
				}
			}
			out, err := helm(t, args...)
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestTemplate compares what is rendered with testdata. "go test ./test/chart
// -update" writes it anew; the difference is for a reviewer to read.
func TestTemplate(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			got := template(t, v.args...)
			file := filepath.Join("testdata", v.name+".yaml")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if line, g, w := firstDifference(got, string(want)); line > 0 {
				t.Errorf("%s, line %d:\n got %s\nwant %s\n(go test ./test/chart -update, and read the difference)", file, line, g, w)
			}
		})
	}
}

// firstDifference is the first line, counted from 1, in which two texts
// differ, or 0.
func firstDifference(got, want string) (line int, g, w string) {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(a), len(b)) {
		g, w = "(end)", "(end)"
		if i < len(a) {
			g = a[i]
		}
		if i < len(b) {
			w = b[i]
		}
		if g != w {
			return i + 1, g, w
		}
	}
	return 0, "", ""
}

func TestNotes(t *testing.T) {
	tests := []struct {
		name string
		args []string
		says []string
	}{
		{"deny by default", nil, []string{
			"WARNING  The default action is Deny", "kube-system, tierwall-system", "but DNS", "helm test -n tierwall-system tierwall", "kind: TierRole",
			"these too, what a new pod sends and gets is dropped", "every node that has an enforcer then", "docs/operations.md",
		}},
		{"allow by default", []string{"--set", "defaultAction=Allow"}, []string{"The default action is Allow", "--set defaultAction=Deny"}},
		{"audit by default", []string{"--set", "defaultAction=Audit", "--set", "namespaceDefaultActions.prod=Deny"}, []string{
			"The default action is Audit", "grep audited", "--set defaultAction=Deny", "WARNING  Where the cluster's default action is Audit",
		}},
		{"some closed in an open cluster", []string{"--set", "defaultAction=Allow", "--set", "namespaceDefaultActions.prod=Deny"}, []string{
			"prod=Deny", "WARNING  Where the cluster's default action is Allow", "has just booted",
		}},
		{"with the CNI plugin", []string{"--set", "enforcer.cni.enabled=true"}, []string{"a new pod starts when its rules are in force"}},
		{"definitions are kept", []string{"--set", "uninstall.keepCRDs=true"}, []string{"keeps TierRoles and Guardrails"}},
	}
	chart := chartThatRendersNotes(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			notes := templateOf(t, chart, append(test.args, "--show-only", "templates/notes.yaml")...)
			for _, want := range test.says {
				if !strings.Contains(notes, want) {
					t.Errorf("the notes do not say %q:\n%s", want, notes)
				}
			}
		})
	}
}

// chartThatRendersNotes is a copy of the chart whose NOTES.txt is an object,
// because "helm template" does not show notes.
func chartThatRendersNotes(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tierwall")
	if err := os.CopyFS(dir, os.DirFS(chartDir)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(chartDir, "templates/NOTES.txt"))
	if err != nil {
		t.Fatal(err)
	}
	object := "{{- define \"notes\" -}}\n" + string(text) + "{{- end -}}\nnotes: |\n{{ include \"notes\" . | indent 2 }}\n"
	if err := os.WriteFile(filepath.Join(dir, "templates/notes.yaml"), []byte(object), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
