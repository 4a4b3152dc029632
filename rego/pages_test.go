package rego

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/charts"
)

var update = flag.Bool("update", false, "write the pages of the guardrails anew")

// page is the documentation of a guardrail: what its METADATA says, and what it says
// itself of its example.
func page(t *testing.T, entry LibraryEntry) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s.\n\n%s\n\n", entry.Name, entry.Title, entry.Description)
	fmt.Fprintf(&b, "Severity %s. %s [Source](../../../rego/library/%s.rego).\n\n", entry.Severity, inChart(t, entry.Name),
		strings.ReplaceAll(entry.Name, "-", "_"))
	if len(entry.Parameters) > 0 {
		b.WriteString("| parameter | type | means | default |\n|---|---|---|---|\n")
		for _, name := range slices.Sorted(maps.Keys(entry.Parameters)) {
			p := entry.Parameters[name]
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, p.Type, p.Means, inWords(t, p.Default))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "## What it stops\n\n[This](../examples/%s.yaml):\n\n```yaml\n%s```\n\nis answered with\n\n```\n", entry.Name,
		contents(t, docs+"examples/"+entry.Name+".yaml"))
	for _, v := range complaints(t, entry.Name) {
		b.WriteString(v.Message + "\n")
	}
	fmt.Fprintf(&b, "```\n\n## How to have it\n\nIn the values of the chart:\n\n```yaml\nguardrails:\n  %s: {enabled: true, enforcement: Deny}\n```\n\n", entry.Name)
	fmt.Fprintf(&b, "or as an object:\n\n```yaml\napiVersion: tierwall.io/v1alpha1\nkind: Guardrail\nmetadata: {name: %s}\nspec: {library: %s}\n```\n",
		entry.Name, entry.Name)
	return b.String()
}

// inChart says what the chart does with a guardrail unless its values say otherwise.
func inChart(t *testing.T, name string) string {
	t.Helper()
	var values struct {
		Guardrails map[string]struct {
			Enabled     *bool
			Enforcement string
		}
	}
	if err := yaml.Unmarshal(charts.Values, &values); err != nil {
		t.Fatal(err)
	}
	v, ok := values.Guardrails[name]
	switch {
	case !ok:
		t.Errorf("the chart's values do not name %s", name)
		return ""
	case v.Enabled != nil && !*v.Enabled:
		return "Not in force unless the chart's values enable it."
	default:
		return fmt.Sprintf("The chart has it in force, with enforcement %s.", v.Enforcement)
	}
}

func inWords(t *testing.T, value any) string {
	t.Helper()
	if text, ok := value.(string); ok {
		return text
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return "`" + strings.ReplaceAll(string(text), `"`, "") + "`"
}

func TestEachGuardrailHasItsPage(t *testing.T) {
	for _, entry := range Library() {
		file, want := docs+"library/"+entry.Name+".md", page(t, entry)
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := contents(t, file); got != want {
			t.Errorf("%s is not what its METADATA and its example say; go test ./rego -update writes it anew:\n%s", file, want)
		}
		row := fmt.Sprintf("| [`%s`](library/%s.md) |", entry.Name, entry.Name)
		if !strings.Contains(contents(t, docs+"README.md"), row) {
			t.Errorf("the overview has no row %s", row)
		}
	}
}
