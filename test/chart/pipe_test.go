package chart

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli"
)

// checkPiped is the exit status and output of "tierwall check -f -" behind a pipe.
func checkPiped(t *testing.T, manifests string, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	status := cli.Run(t.Context(), append([]string{"tierwall", "check", "-f", "-"}, args...),
		cli.Streams{In: strings.NewReader(manifests), Out: &out, Err: &out})
	return status, out.String()
}

// What Helm renders can be piped into the command line, as its manual says.
func TestRenderedChartsAreChecked(t *testing.T) {
	if status, out := checkPiped(t, template(t)); status != cli.Fine || !strings.Contains(out, "nothing to object to") {
		t.Errorf("our own chart: exit status %d\n%s", status, out)
	}
	shop := t.TempDir()
	for name, text := range map[string]string{
		"Chart.yaml":          "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
		"values.yaml":         "open: true\noff: false\n",
		"templates/off.yaml":  "{{ if .Values.off }}\nkind: Nothing\n{{ end }}\n",
		"templates/open.yaml": "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: open}\nspec:\n  podSelector: {}\n  ingress: [{{ if .Values.open }}{}{{ end }}]\n",
	} {
		if err := os.MkdirAll(filepath.Join(shop, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(shop, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if status, out := checkPiped(t, templateOf(t, shop), "-n", "shop"); status != cli.Violated || !strings.Contains(out, "NetworkPolicy shop/open") {
		t.Errorf("an open policy: exit status %d\n%s", status, out)
	}
	if status, out := checkPiped(t, templateOf(t, shop, "--set", "open=false"), "-n", "shop"); status != cli.Fine {
		t.Errorf("a closed one: exit status %d\n%s", status, out)
	}
}
