package chart

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/rego"
)

func TestSchemaRefuses(t *testing.T) {
	tests := []struct {
		set  string
		says string
	}{
		{"defaultaction=Allow", "additional properties 'defaultaction' not allowed"},
		{"defaultAction=allow", "/defaultAction"},
		{"webhook.replica=3", "additional properties 'replica' not allowed"},
		{"webhook.replicas=0", "/webhook/replicas"},
		{"webhook.clientCA=none", "/webhook/clientCA"},
		{"webhook.clientNames={kube-apiserver}", "/webhook/clientCA"},
		{"webhook.shield=null", "missing property 'shield'"},
		{"webhook.image.version=1", "additional properties 'version' not allowed"},
		{"webhook.resources.request.cpu=1", "additional properties 'request' not allowed"},
		{"enforcer.backend=nft", "/enforcer/backend"},
		{"enforcer.privileged=true", "additional properties 'privileged' not allowed"},
		{"enforcer.maxUnavailable=0", "/enforcer/maxUnavailable"},
		{"enforcer.tolerations[0].keys=x", "additional properties 'keys' not allowed"},
		{"certificates.provider=vault", "/certificates/provider"},
		{"certificates.issuerRef.kind=ClusterIssuer", "/certificates/issuerRef"},
		{"namespaceDefaultActions.prod=Pass", "/namespaceDefaultActions/prod"},
		{"exemptNamespaces[0]=Prod", "/exemptNamespaces/0"},
		{"exemptNamespaces[0]=a\\,b", "/exemptNamespaces/0"},
		{"dns.ports[0]=0", "/dns/ports/0"},
		{"dns.addresses[0]=10.0.0.1", "/dns/addresses/0"},
		{"dns.podLabels=null", "/dns"},
		{"guardrails.data-tier-open.enforcement=Deny", "data-tier-open"},
		{"guardrails.tier-order.enforcement=deny", "/guardrails/tier-order/enforcement"},
		{"guardrails.tier-order.enforce=Deny", "additional properties 'enforce' not allowed"},
		{"imagePullSecrets[0].secret=x", "additional properties 'secret' not allowed"},
		{"metrics.serviceMonitor.interval=1s", "additional properties 'interval' not allowed"},
		{"uninstall.keepCrds=true", "additional properties 'keepCrds' not allowed"},
	}
	for _, test := range tests {
		t.Run(test.set, func(t *testing.T) {
			_, err := helm(t, "template", release, chartDir, "--kube-version", kubernetes, "--set", test.set)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("refused without %q:\n%v", test.says, err)
			}
		})
	}
}

// TestSchemaIsClosed looks for a part of the schema that takes anything.
func TestSchemaIsClosed(t *testing.T) {
	free := []string{
		"/properties/global", // Helm's own
		"/properties/guardrails/additionalProperties/properties/parameters", // the guardrail's own
		"/properties/bundle/properties/volume",                              // as Kubernetes has it
	}
	var schema any
	readJSON(t, "values.schema.json", &schema)
	walk(schema, "", func(path string, node map[string]any) {
		if node["type"] != "object" || slices.Contains(free, path) {
			return
		}
		if more, ok := node["additionalProperties"]; !ok || more == true {
			t.Errorf("values.schema.json: %s takes values that it does not know", path)
		}
	})
}

func walk(node any, path string, visit func(string, map[string]any)) {
	object, ok := node.(map[string]any)
	if !ok {
		return
	}
	visit(path, object)
	for key, child := range object {
		walk(child, path+"/"+key, visit)
	}
}

// TestGuardrailsOfTheLibrary holds the values, their schema and the library together.
func TestGuardrailsOfTheLibrary(t *testing.T) {
	var library []string
	for _, entry := range rego.Library() {
		library = append(library, entry.Name)
	}
	var schema struct {
		Properties struct {
			Guardrails struct {
				PropertyNames struct {
					Enum []string `json:"enum"`
				} `json:"propertyNames"`
			} `json:"guardrails"`
		} `json:"properties"`
	}
	readJSON(t, "values.schema.json", &schema)
	if got := slices.Sorted(slices.Values(schema.Properties.Guardrails.PropertyNames.Enum)); !slices.Equal(got, library) {
		t.Errorf("values.schema.json knows the guardrails %q, the library has %q", got, library)
	}
	var values struct {
		Guardrails map[string]any `json:"guardrails"`
	}
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	for _, name := range library {
		if _, ok := values.Guardrails[name]; !ok {
			t.Errorf("values.yaml does not mention guardrail %s", name)
		}
	}
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartDir, file))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
