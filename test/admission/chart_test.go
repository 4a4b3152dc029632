//go:build admission

package admission

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/webhook/registration"
)

const (
	chartDir        = "../../charts/tierwall"
	systemNamespace = "tierwall-system"
)

// installed are the templates that matter to admission.
var installed = []string{
	"templates/admission/configurations.yaml", "templates/admission/configmap.yaml", "templates/admission/policies.yaml",
	"templates/admission/accounts.yaml", "templates/admission/exempt.yaml",
	"templates/webhook/rbac.yaml", "templates/webhook/secret.yaml", "templates/metrics/secret.yaml", "templates/enforcer/rbac.yaml",
	"templates/policy/guardrails.yaml", "templates/policy/dns.yaml",
}

// chart is the part of the chart that matters to admission.
type chart struct {
	crds, objects []*unstructured.Unstructured
}

// renderChart renders what is installed of the chart, with two exempt namespaces that are not there.
func renderChart(ctx context.Context) (*chart, error) {
	return renderRelease(ctx, "tierwall", installed...)
}

// renderRelease renders templates of the chart as a release.
func renderRelease(ctx context.Context, release string, templates ...string) (*chart, error) {
	helm, err := cluster.Program("helm")
	if err != nil {
		return nil, err
	}
	args := []string{"template", release, chartDir, "--namespace", systemNamespace, "--kube-version", "1.35.4",
		"--set", "exemptNamespaces={monitoring,backup}"}
	for _, t := range templates {
		args = append(args, "--show-only", t)
	}
	out, err := exec.CommandContext(ctx, helm, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("helm template: %w", err)
	}
	c := &chart{}
	if c.objects, err = objectsOf(out); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(chartDir, "crds", "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		crds, err := objectsOf(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		c.crds = append(c.crds, crds...)
	}
	return c, nil
}

func objectsOf(text []byte) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		if err := d.Decode(o); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		if len(o.Object) > 0 {
			out = append(out, o)
		}
	}
}

// install makes the chart's objects, as the admin.
func (c *chart) install(ctx context.Context, as client.Client) error {
	for _, o := range append(c.crds, c.objects...) {
		if err := retried(ctx, func() error { return as.Create(ctx, o.DeepCopy()) }); err != nil {
			return fmt.Errorf("create %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// count returns how many objects of a kind the chart has.
func (c *chart) count(kind string) int {
	n := 0
	for _, o := range c.objects {
		if o.GetKind() == kind {
			n++
		}
	}
	return n
}

// retried tries again for a while: bootstrap goes on after the API server is ready.
func retried(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		err := do()
		if err == nil || apierrors.IsAlreadyExists(err) {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// webhooks are what the chart's configurations are to hold, but reached at a
// port of this machine and not by a Service.
func (c *chart) webhooks(port int) (registration.Webhooks, error) {
	w, err := c.asRendered()
	for i := range w.Validating {
		local(&w.Validating[i].ClientConfig, port)
	}
	for i := range w.Mutating {
		local(&w.Mutating[i].ClientConfig, port)
	}
	return w, err
}

// service is the chart's way to the webhook, in the admission policy that pins it.
var service = regexp.MustCompile(`"service": dyn\(\{[^{}]*"path": dyn\("([^"]*)"\)[^{}]*\}\)`)

// pinTo has the admission policy pin the webhooks to a port of this machine instead of the Service.
func (c *chart) pinTo(ctx context.Context, as client.Client, port int) error {
	for _, o := range c.objects {
		if o.GetKind() != "ValidatingAdmissionPolicy" || o.GetName() != "tierwall-configurations" {
			continue
		}
		policy := &admissionv1.ValidatingAdmissionPolicy{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, policy); err != nil {
			return err
		}
		before := policy.Spec.Variables[0].Expression
		policy.Spec.Variables[0].Expression = service.ReplaceAllString(before, fmt.Sprintf(`"url": dyn("https://localhost:%d$1")`, port))
		if policy.Spec.Variables[0].Expression == before {
			return errors.New("the chart pins no Service")
		}
		live := &admissionv1.ValidatingAdmissionPolicy{}
		return retried(ctx, func() error {
			if err := as.Get(ctx, client.ObjectKeyFromObject(policy), live); err != nil {
				return err
			}
			live.Spec = policy.Spec
			return as.Update(ctx, live)
		})
	}
	return errors.New("the chart has no admission policy that pins its webhooks")
}

// asRendered are what the chart's configurations are to hold.
func (c *chart) asRendered() (registration.Webhooks, error) {
	for _, o := range c.objects {
		if o.GetKind() != "ConfigMap" {
			continue
		}
		text, _, _ := unstructured.NestedString(o.Object, "data", "webhooks.yaml")
		return registration.ParseWebhooks([]byte(text))
	}
	return registration.Webhooks{}, errors.New("the chart has no ConfigMap with webhooks")
}
