// Package activation tells the API server to ask the webhook, once the webhook
// can answer. The chart installs the two webhook configurations without
// webhooks, so that an installation (or the loss of every replica during one)
// stops nothing, and what they are to hold as a file; this package keeps them
// equal to the file, with the current authority. It never makes or deletes a
// configuration: what an uninstallation removed stays removed.
package registration

import (
	"fmt"
	"os"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"
)

// Webhooks are what the configurations are to hold, but for the authority.
type Webhooks struct {
	Validating []admissionv1.ValidatingWebhook `json:"validating"`
	Mutating   []admissionv1.MutatingWebhook   `json:"mutating"`
}

// ReadWebhooks reads Webhooks from a YAML file.
func ReadWebhooks(path string) (Webhooks, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Webhooks{}, fmt.Errorf("read the webhooks: %w", err)
	}
	return ParseWebhooks(text)
}

// ParseWebhooks reads Webhooks from YAML.
func ParseWebhooks(text []byte) (Webhooks, error) {
	var w Webhooks
	if err := yaml.UnmarshalStrict(text, &w); err != nil {
		return Webhooks{}, fmt.Errorf("read the webhooks: %w", err)
	}
	if len(w.Validating) == 0 || len(w.Mutating) == 0 {
		return Webhooks{}, fmt.Errorf("the webhooks' file has %d validating and %d mutating webhooks: want some of both",
			len(w.Validating), len(w.Mutating))
	}
	return w, nil
}

// validatingWithBundle are the webhooks with the bundle.
func (w Webhooks) validatingWithBundle(bundle []byte) []admissionv1.ValidatingWebhook {
	out := make([]admissionv1.ValidatingWebhook, 0, len(w.Validating))
	for _, hook := range w.Validating {
		hook.ClientConfig.CABundle = bundle
		out = append(out, hook)
	}
	return out
}

// mutatingWithBundle are the webhooks with the bundle.
func (w Webhooks) mutatingWithBundle(bundle []byte) []admissionv1.MutatingWebhook {
	out := make([]admissionv1.MutatingWebhook, 0, len(w.Mutating))
	for _, hook := range w.Mutating {
		hook.ClientConfig.CABundle = bundle
		out = append(out, hook)
	}
	return out
}

// equalWebhooks compares webhooks as the API server means them: what a file leaves out
// and the API server fills in is written in the file, so nothing is left out.
func equalWebhooks[W any](a, b []W) bool { return equality.Semantic.DeepEqual(a, b) }
