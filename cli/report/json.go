package report

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/tierwall/tierwall/cli/check"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/internal/unenforced"
)

// Schema is the version of the JSON form.
const Schema = "tierwall.io/check/v1"

type document struct {
	Schema     string           `json:"schema"`
	Findings   []check.Finding  `json:"findings"`
	Errors     []manifest.Error `json:"errors"`
	Guardrails []string         `json:"guardrails"`
	Summary    summary          `json:"summary"`
	// Warnings are what was read otherwise than it is written, Skipped files without
	// objects, and Unenforced policies of other engines.
	Warnings   []manifest.Error   `json:"warnings,omitempty"`
	Skipped    []manifest.Error   `json:"skipped,omitempty"`
	Unenforced []unenforced.Count `json:"unenforced,omitempty"`
}

type summary struct {
	Objects    int `json:"objects"`
	Judged     int `json:"judged"`
	Exempt     int `json:"exempt"`
	Violations int `json:"violations"`
	Warnings   int `json:"warnings"`
	// NotLookedAt is how many objects there are of kinds that policy does not depend on.
	NotLookedAt map[string]int `json:"notLookedAt"`
}

func (r Report) json(out io.Writer) error {
	d := document{
		Schema: Schema, Findings: append([]check.Finding{}, r.Findings...), Errors: append([]manifest.Error{}, r.Errors...), Guardrails: []string{},
		Summary: summary{Objects: len(r.Objects), Judged: r.Judged, Exempt: r.Exempt, Violations: r.Denials(),
			Warnings: len(r.Findings) - r.Denials(), NotLookedAt: r.unread()},
		Warnings: r.Warnings, Skipped: r.Skipped, Unenforced: r.Unenforced,
	}
	for _, g := range r.Guardrails {
		d.Guardrails = append(d.Guardrails, g.Name)
	}
	return WriteJSON(out, d)
}

// WriteJSON writes a value as JSON for people and programs.
func WriteJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
