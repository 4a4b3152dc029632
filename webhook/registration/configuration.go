// Package registration registers the webhook with the API server once the webhook can answer. The
// chart installs the two webhook configurations empty, so that an installation without a running replica blocks
// nothing. This package fills them from a file, with the current CA bundle, and restores them after changes. It
// never creates or deletes a configuration, so that an uninstallation is final.
package registration

import (
	"fmt"
	"os"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"
)

// Webhooks are the desired contents of the two configurations, without the CA bundle.
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

// validatingWithBundle returns the validating webhooks with the CA bundle.
func (w Webhooks) validatingWithBundle(bundle []byte) []admissionv1.ValidatingWebhook {
	out := make([]admissionv1.ValidatingWebhook, 0, len(w.Validating))
	for _, hook := range w.Validating {
		hook.ClientConfig.CABundle = bundle
		out = append(out, hook)
	}
	return out
}

// mutatingWithBundle returns the mutating webhooks with the CA bundle.
func (w Webhooks) mutatingWithBundle(bundle []byte) []admissionv1.MutatingWebhook {
	out := make([]admissionv1.MutatingWebhook, 0, len(w.Mutating))
	for _, hook := range w.Mutating {
		hook.ClientConfig.CABundle = bundle
		out = append(out, hook)
	}
	return out
}

// equalWebhooks reports whether webhooks are equal. The file has all fields that the API server would default.
func equalWebhooks[W any](a, b []W) bool { return equality.Semantic.DeepEqual(a, b) }
