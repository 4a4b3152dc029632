package report

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/cli/check"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/rego"
)

// The parts of SARIF 2.1.0 (OASIS standard) that are written; section numbers are its own.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct { // 3.14
		Tool        sarifTool         `json:"tool"`
		ColumnKind  string            `json:"columnKind"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct { // 3.19
		Name           string      `json:"name"`
		Version        string      `json:"version"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct { // 3.49
		ID               string         `json:"id"`
		ShortDescription *sarifText     `json:"shortDescription,omitempty"`
		FullDescription  *sarifText     `json:"fullDescription,omitempty"`
		Properties       map[string]any `json:"properties,omitempty"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifInvocation struct { // 3.20
		ExecutionSuccessful bool                `json:"executionSuccessful"`
		Notifications       []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct { // 3.58
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
	}
	sarifResult struct { // 3.27
		RuleID              string            `json:"ruleId"`
		RuleIndex           int               `json:"ruleIndex"`
		Level               string            `json:"level"`
		Message             sarifText         `json:"message"`
		Locations           []sarifLocation   `json:"locations"`
		PartialFingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct { // 3.28
		PhysicalLocation sarifPhysical  `json:"physicalLocation"`
		LogicalLocations []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		ArtifactLocation struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
		Region *sarifRegion `json:"region,omitempty"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
)

func (r Report) sarif(out io.Writer) error {
	run := sarifRun{
		Tool: sarifTool{Driver: sarifDriver{Name: "tierwall", Version: r.Version,
			InformationURI: "https://github.com/tierwall/tierwall", Rules: r.sarifRules()}},
		ColumnKind:  "unicodeCodePoints",
		Invocations: []sarifInvocation{{ExecutionSuccessful: len(r.Errors) == 0}},
		Results:     []sarifResult{},
	}
	for _, e := range r.Errors {
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotification{
			Level: "error", Message: sarifText{e.Error()}, Locations: []sarifLocation{location(e.File, e.Line, e.Object, e.Field)}})
	}
	for _, note := range Notes(manifest.Reading{Warnings: r.Warnings}, r.Unenforced) {
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotification{
			Level: "warning", Message: sarifText{strings.TrimPrefix(note, "warning: ")}})
	}
	for _, f := range r.Findings {
		run.Results = append(run.Results, sarifResult{
			RuleID:    f.Rule,
			RuleIndex: slices.IndexFunc(run.Tool.Driver.Rules, func(rule sarifRule) bool { return rule.ID == f.Rule }),
			Level:     map[check.Level]string{check.Deny: "error", check.Warn: "warning"}[f.Level],
			Message:   sarifText{f.Message},
			Locations: []sarifLocation{location(f.File, f.Line, f.Object, f.Field)},
			// What does not change when lines are added above (3.27.16).
			PartialFingerprints: map[string]string{"tierwall/v1": fingerprint(f)},
		})
	}
	return WriteJSON(out, sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}

// securitySeverity is a severity as code scanning sorts it.
var securitySeverity = map[string]string{"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0"}

// sarifRules are the guardrails that were asked, and the rules of other findings.
func (r Report) sarifRules() []sarifRule {
	rules := []sarifRule{}
	library := map[string]rego.LibraryEntry{}
	for _, entry := range rego.Library() {
		library[entry.Name] = entry
	}
	for _, g := range r.Guardrails {
		entry := library[g.Spec.Library]
		rules = append(rules, sarifRuleOf(g.Name, entry.Title, entry.Description, entry.Severity))
	}
	for _, f := range r.Findings {
		if !slices.ContainsFunc(rules, func(rule sarifRule) bool { return rule.ID == f.Rule }) {
			rules = append(rules, sarifRuleOf(f.Rule, f.Title, "", f.Severity))
		}
	}
	return rules
}

func sarifRuleOf(id, title, description, severity string) sarifRule {
	rule := sarifRule{ID: id}
	if title != "" {
		rule.ShortDescription = &sarifText{title}
	}
	if description != "" {
		rule.FullDescription = &sarifText{description}
	}
	if score := securitySeverity[severity]; score != "" {
		rule.Properties = map[string]any{"security-severity": score, "tags": []string{"security", "network-policy"}}
	}
	return rule
}

func location(file string, line int, object, field string) sarifLocation {
	var l sarifLocation
	l.PhysicalLocation.ArtifactLocation.URI = uri(file)
	if line > 0 {
		l.PhysicalLocation.Region = &sarifRegion{line}
	}
	if name := strings.TrimSpace(object + " " + field); name != "" {
		l.LogicalLocations = []sarifLogical{{FullyQualifiedName: name, Kind: "object"}}
	}
	return l
}

// uri is a path as a relative reference (RFC 3986).
func uri(file string) string {
	if file == "-" {
		file = "stdin"
	}
	return (&url.URL{Path: filepath.ToSlash(filepath.Clean(file))}).EscapedPath()
}

// fingerprint identifies an alert from run to run and decides nothing. Another length would
// open every known alert anew.
func fingerprint(f check.Finding) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{f.Rule, uri(f.File), f.Object, f.Field, f.Message}, "\x00")))
	return hex.EncodeToString(sum[:16])
}
