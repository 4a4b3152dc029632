package chart

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

// An object is one that the chart renders.
type object struct {
	client.Object
	kind string
	yaml []byte
}

func (o object) String() string { return o.kind + " " + o.GetName() }

// scheme has the real type of every kind that the chart renders.
func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientscheme.AddToScheme, apiextensionsv1.AddToScheme, certmanagerv1.AddToScheme,
		policyv1alpha2.Install, v1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// documents are the non-empty documents of a YAML text.
func documents(t *testing.T, text string) [][]byte {
	t.Helper()
	var docs [][]byte
	reader := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatal(err)
		}
		var content map[string]any
		if err := yaml.Unmarshal(doc, &content); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		if len(content) > 0 {
			docs = append(docs, bytes.Clone(doc))
		}
	}
}

// objects renders a variant. An object with a field that its type does not have,
// or has twice, fails the test.
func objects(t *testing.T, v variant) []object {
	t.Helper()
	decoder := serializer.NewCodecFactory(scheme(t), serializer.EnableStrict).UniversalDeserializer()
	var all []object
	for _, doc := range documents(t, template(t, v.args...)) {
		o, kind, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			t.Errorf("%v in\n%s", err, doc)
			continue
		}
		all = append(all, object{Object: o.(client.Object), kind: kind.Kind, yaml: doc})
	}
	if len(all) == 0 {
		t.Fatal("nothing is rendered")
	}
	return all
}

// forEveryVariant runs a test on the objects of each variant.
func forEveryVariant(t *testing.T, test func(*testing.T, []object)) {
	t.Helper()
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) { test(t, objects(t, v)) })
	}
}

// TestObjectsAreComplete asks of every object what anybody who runs the cluster asks.
func TestObjectsAreComplete(t *testing.T) {
	forEveryVariant(t, func(t *testing.T, all []object) {
		seen := map[string]bool{}
		for _, o := range all {
			if id := o.GetNamespace() + " " + o.String(); seen[id] {
				t.Errorf("%s is rendered twice", o)
			} else {
				seen[id] = true
			}
			for _, label := range []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "helm.sh/chart"} {
				if o.GetLabels()[label] == "" {
					t.Errorf("%s has no label %s", o, label)
				}
			}
			if ns := o.GetNamespace(); ns != "" && ns != namespace && !strings.HasSuffix(o.GetName(), "-selftest") {
				t.Errorf("%s is in namespace %s", o, ns)
			}
			if o.kind != "Guardrail" && !strings.Contains(o.GetName(), release) {
				t.Errorf("%s does not carry the name of the release", o)
			}
		}
	})
}
