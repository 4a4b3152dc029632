package audit

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/rego"
	"github.com/tierwall/tierwall/webhook/guardrails"
)

// live is a cluster as the Auditor sees it.
type live struct {
	snapshot *compile.Snapshot
	engine   *rego.Engine
}

func (l *live) Snapshot() *compile.Snapshot { return l.snapshot }
func (l *live) Synced() bool                { return true }
func (l *live) Next() <-chan struct{}       { return nil }
func (l *live) InForce() *rego.Engine       { return l.engine }
func (l *live) State(types.UID) (guardrails.GuardrailState, bool) {
	return guardrails.GuardrailState{Generation: 1, InForce: 1}, true
}

// scene is an Auditor and what it works on.
type scene struct {
	*Auditor
	live     *live
	recorder *events.FakeRecorder
	writes   int
}

func play(t *testing.T, served bool, w Inventory, guardrails ...string) *scene {
	t.Helper()
	s := &scene{live: &live{w.Snapshot, library(t, guardrails...)}, recorder: events.NewFakeRecorder(100)}
	scheme := clustercache.Scheme()
	mapper := meta.NewDefaultRESTMapper(nil)
	for gvk := range scheme.AllKnownTypes() {
		mapper.Add(gvk, meta.RESTScopeRoot)
	}
	mapper.Add(networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"), meta.RESTScopeNamespace)
	if served {
		mapper.Add(reportGroupVersion.WithKind("PolicyReport"), meta.RESTScopeNamespace)
		mapper.Add(reportGroupVersion.WithKind("ClusterPolicyReport"), meta.RESTScopeRoot)
		for _, kind := range []string{"PolicyReport", "ClusterPolicyReport"} {
			scheme.AddKnownTypeWithName(reportGroupVersion.WithKind(kind), &unstructured.Unstructured{})
			scheme.AddKnownTypeWithName(reportGroupVersion.WithKind(kind+"List"), &unstructured.UnstructuredList{})
		}
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(mapper).WithStatusSubresource(&v1alpha1.Guardrail{}).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				s.writes++
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
			Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
				s.writes++
				return c.Apply(ctx, o, opts...)
			},
		})
	for _, np := range w.NetworkPolicies {
		np.UID = types.UID("uid-" + np.Name)
		builder.WithObjects(np)
	}
	for _, name := range guardrails {
		builder.WithObjects(&v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
			Spec: v1alpha1.GuardrailSpec{Library: name, Enforcement: v1alpha1.EnforceDeny}})
	}
	c := builder.Build()
	s.Auditor = &Auditor{Snapshots: s.live, Guardrails: s.live, Client: c, Reader: c, Recorder: s.recorder, Log: slog.New(slog.DiscardHandler)}
	return s
}

func (s *scene) audit(t *testing.T) {
	t.Helper()
	if err := s.auditIfChanged(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (s *scene) results(t *testing.T, name string) *v1alpha1.Audit {
	t.Helper()
	g := &v1alpha1.Guardrail{}
	if err := s.Client.Get(t.Context(), types.NamespacedName{Name: name}, g); err != nil {
		t.Fatal(err)
	}
	return g.Status.Audit
}

func (s *scene) reports(t *testing.T) map[string]*unstructured.Unstructured {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(reportGroupVersion.WithKind("PolicyReportList"))
	if err := s.Client.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	out := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		out[list.Items[i].GetNamespace()] = &list.Items[i]
	}
	return out
}

func (s *scene) events() []string {
	var out []string
	for {
		select {
		case e := <-s.recorder.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

// shortcut is a policy that tier-order refuses.
func shortcut() Inventory { return shop(allow("prod", "shortcut", "frontend", "data")) }

func TestResultsStandInTheStatusAnEventAndAReport(t *testing.T) {
	s := play(t, true, shortcut(), "tier-order", "data-tier-closed")
	s.audit(t)
	got := s.results(t, "tier-order")
	if got == nil || got.Violations != 1 || got.Generation != 1 || len(got.Results) != 1 ||
		got.Results[0].Kind != "NetworkPolicy" || got.Results[0].Namespace != "prod" || got.Results[0].Name != "shortcut" || got.Results[0].Path != "/spec" {
		t.Errorf("results %+v", got)
	}
	if got := s.results(t, "data-tier-closed"); got == nil || got.Violations != 0 {
		t.Errorf("results of a guardrail that nothing violates: %+v", got)
	}
	if e := s.events(); len(e) != 1 || !strings.Contains(e[0], "Warning GuardrailViolated Guardrail tier-order: NetworkPolicy prod/shortcut") {
		t.Errorf("events %q", e)
	}
	report := s.reports(t)["prod"]
	if report == nil {
		t.Fatal("no report")
	}
	failed, _, _ := unstructured.NestedInt64(report.Object, "summary", "fail")
	results, _, _ := unstructured.NestedSlice(report.Object, "results")
	if failed != 1 || len(results) != 1 || results[0].(map[string]any)["policy"] != "tier-order" || results[0].(map[string]any)["severity"] != "high" {
		t.Errorf("report %+v", report.Object)
	}
}

func TestWhatIsMendedIsGone(t *testing.T) {
	s := play(t, true, shortcut(), "tier-order")
	s.audit(t)
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "shortcut"}}
	if err := s.Client.Delete(t.Context(), np); err != nil {
		t.Fatal(err)
	}
	s.audit(t)
	if got := s.results(t, "tier-order"); got.Violations != 0 || len(got.Results) != 0 {
		t.Errorf("results %+v", got)
	}
	if r := s.reports(t); len(r) != 0 {
		t.Errorf("reports %+v", r)
	}
}

func TestWithoutAChangeThereIsNoAudit(t *testing.T) {
	s := play(t, true, shortcut(), "tier-order")
	s.audit(t)
	writes := s.writes
	s.events()
	s.audit(t)
	s.live.snapshot = shortcut().Snapshot // equal, but news
	s.audit(t)
	if s.writes != writes || len(s.events()) != 0 {
		t.Errorf("%d writes, then %d", writes, s.writes)
	}
}

func TestANewLeaderTellsNothingTwiceAndDeletesWhatIsPast(t *testing.T) {
	s := play(t, true, shortcut(), "tier-order")
	s.audit(t)
	s.events()
	again := &Auditor{Snapshots: s.live, Guardrails: s.live, Client: s.Client, Reader: s.Client, Recorder: s.recorder, Log: s.Log}
	if err := again.auditIfChanged(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := s.events(); len(e) != 0 {
		t.Errorf("told again: %q", e)
	}
	s.live.engine = library(t)
	another := &Auditor{Snapshots: s.live, Guardrails: s.live, Client: s.Client, Reader: s.Client, Recorder: s.recorder, Log: s.Log}
	if err := another.auditIfChanged(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := s.reports(t); len(r) != 0 {
		t.Errorf("reports %+v", r)
	}
}

func TestWithoutReportsTheRestIsWritten(t *testing.T) {
	s := play(t, false, shortcut(), "tier-order")
	s.audit(t)
	if got := s.results(t, "tier-order"); got == nil || got.Violations != 1 {
		t.Errorf("results %+v", got)
	}
}

func TestLongMessagesAreCut(t *testing.T) {
	for n := range 5 {
		text := strings.Repeat("x", n) + strings.Repeat("é", maxMessage)
		if got := truncateMessage(text); len(got) > maxMessage || strings.ToValidUTF8(got, "") != got || !strings.HasSuffix(got, "…") {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	}
}

func TestWhatAGuardrailWouldFind(t *testing.T) {
	w := shop(allow("prod", "shortcut", "frontend", "data"), allow("prod", "sound", "backend", "data"))
	s := play(t, false, w)
	got, err := ExistingViolations(s.live, s.Client)(t.Context(), library(t, "tier-order"))
	if err != nil || len(got) != 1 || got[0] != "NetworkPolicy prod/shortcut" {
		t.Errorf("%q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := ExistingViolations(s.live, s.Client)(ctx, library(t, "tier-order")); err == nil {
		t.Errorf("%q of what was not judged", got)
	}
}
