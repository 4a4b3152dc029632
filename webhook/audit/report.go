package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// reportGroupVersion is that of PolicyReports (Kubernetes Policy Working Group), which tools such as
// Policy Reporter read.
var reportGroupVersion = schema.GroupVersion{Group: "wgpolicyk8s.io", Version: "v1alpha2"}

const (
	// reportName is the name of all reports that tierwall writes.
	reportName = "tierwall"
	// maxReported bounds the results of a report.
	maxReported = 500
	managedBy   = "app.kubernetes.io/managed-by"
)

// writeReports writes a PolicyReport in each namespace with findings, and a ClusterPolicyReport for
// cluster-scoped objects. It deletes reports without findings. It does nothing if the API server does not
// serve reports.
func (a *Auditor) writeReports(ctx context.Context, findings []Finding) error {
	mapper := a.Client.RESTMapper()
	for _, kind := range []string{"PolicyReport", "ClusterPolicyReport"} {
		_, err := mapper.RESTMapping(schema.GroupKind{Group: reportGroupVersion.Group, Kind: kind}, reportGroupVersion.Version)
		if meta.IsNoMatchError(err) {
			a.reported = nil
			return nil
		}
		if err != nil {
			return fmt.Errorf("find %s: %w", kind, err)
		}
	}
	if a.reported == nil || time.Since(a.lastAuditTime) >= refreshInterval {
		if err := a.readReports(ctx); err != nil {
			return err
		}
	}
	by := map[string][]Finding{}
	for _, f := range findings {
		by[f.Namespace] = append(by[f.Namespace], f)
	}
	var errs []error
	for namespace, some := range by {
		errs = append(errs, a.writeReport(ctx, namespace, some))
	}
	for namespace := range a.reported {
		if by[namespace] == nil {
			errs = append(errs, a.deleteReport(ctx, namespace))
		}
	}
	return errors.Join(errs...)
}

// readReports finds the reports that an earlier leader wrote.
func (a *Auditor) readReports(ctx context.Context) error {
	found := map[string]string{}
	for _, kind := range []string{"PolicyReport", "ClusterPolicyReport"} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(reportGroupVersion.WithKind(kind + "List"))
		if err := a.Reader.List(ctx, list, client.MatchingLabels{managedBy: reportName}); err != nil {
			return fmt.Errorf("list %ss: %w", kind, err)
		}
		for _, r := range list.Items {
			found[r.GetNamespace()] = "" // its findings are unknown
		}
	}
	a.reported = found
	return nil
}

// newReport returns an empty report of a namespace, or of the cluster if namespace is empty.
func newReport(namespace string) *unstructured.Unstructured {
	r := &unstructured.Unstructured{}
	r.SetGroupVersionKind(reportGroupVersion.WithKind("PolicyReport"))
	if namespace == "" {
		r.SetGroupVersionKind(reportGroupVersion.WithKind("ClusterPolicyReport"))
	}
	r.SetNamespace(namespace)
	r.SetName(reportName)
	return r
}

func (a *Auditor) writeReport(ctx context.Context, namespace string, findings []Finding) error {
	text, err := json.Marshal(findings)
	if err != nil {
		return fmt.Errorf("write the findings in namespace %s as JSON: %w", namespace, err)
	}
	if a.reported[namespace] == string(text) {
		return nil
	}
	r := newReport(namespace)
	r.SetLabels(map[string]string{managedBy: reportName})
	r.Object["summary"], r.Object["results"] = reportSummary(findings), reportResults(findings, time.Now())
	err = a.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(r), client.FieldOwner("tierwall-audit"), client.ForceOwnership)
	if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // the namespace is being deleted
	}
	if err != nil {
		return fmt.Errorf("write the report of namespace %q: %w", namespace, err)
	}
	a.reported[namespace] = string(text)
	return nil
}

func (a *Auditor) deleteReport(ctx context.Context, namespace string) error {
	if err := client.IgnoreNotFound(a.Client.Delete(ctx, newReport(namespace))); err != nil {
		return fmt.Errorf("delete the report of namespace %q: %w", namespace, err)
	}
	delete(a.reported, namespace)
	return nil
}

func reportSummary(findings []Finding) map[string]any {
	counts := map[string]int64{}
	for _, f := range findings {
		counts[f.reportResult()]++
	}
	return map[string]any{"pass": int64(0), "fail": counts["fail"], "warn": counts["warn"], "error": int64(0), "skip": int64(0)}
}

// reportResult returns the result value of a PolicyReport.
func (f Finding) reportResult() string {
	if f.Denied {
		return "fail"
	}
	return "warn"
}

func reportResults(findings []Finding, at time.Time) []any {
	var out []any
	for _, f := range findings[:min(maxReported, len(findings))] {
		resource := map[string]any{"apiVersion": f.APIVersion, "kind": f.Kind, "name": f.Name}
		if f.Namespace != "" {
			resource["namespace"] = f.Namespace
		}
		if f.UID != "" {
			resource["uid"] = string(f.UID)
		}
		result := map[string]any{
			"source": reportName, "policy": f.Guardrail, "category": "Network policy", "message": truncateMessage(f.Message),
			"result": f.reportResult(), "resources": []any{resource}, "scored": true,
			"timestamp": map[string]any{"seconds": at.Unix(), "nanos": int64(0)},
		}
		if severity := cmp.Or(f.Severity, "medium"); slices.Contains([]string{"critical", "high", "medium", "low", "info"}, severity) {
			result["severity"] = severity
		}
		if f.Path != "" {
			result["properties"] = map[string]any{"path": f.Path}
		}
		out = append(out, result)
	}
	return out
}
