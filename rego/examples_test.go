package rego

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/yaml"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

const docs = "../docs/guardrails/"

// shop is the cluster that the examples of the documentation are about.
func shop() *compile.Snapshot {
	s := &compile.Snapshot{
		Namespaces: []*compile.Namespace{
			{Name: "prod", Labels: map[string]string{"environment": "prod", "team": "shop"}},
			{Name: "test", Labels: map[string]string{"environment": "test", "team": "shop"}},
			{Name: "kube-system"},
		},
		Nodes:                  []*compile.Node{{Name: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}},
		ClusterNetworkPolicies: []*policyv1alpha2.ClusterNetworkPolicy{baselineDNS()},
		Defaults:               policy.Defaults{Exempt: []string{"kube-system"}},
	}
	pod := func(ns, account string, labels map[string]string) {
		s.Pods = append(s.Pods, &compile.Pod{Namespace: ns, Name: account + "-1", Node: "n1", ServiceAccount: account, Labels: labels,
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, byte(len(s.Pods) + 10)})}})
	}
	for role, account := range map[string]string{"frontend": "web", "backend": "api", "data": "db"} {
		s.TierRoles = append(s.TierRoles, &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: role},
			Spec: v1alpha1.TierRoleSpec{Role: role, Namespaces: []string{"prod", "test"}, ServiceAccounts: []string{account}}})
		pod("prod", account, map[string]string{"app": account})
		pod("test", account, map[string]string{"app": account})
	}
	pod("kube-system", "coredns", map[string]string{"k8s-app": "kube-dns"})
	return s
}

func baselineDNS() *policyv1alpha2.ClusterNetworkPolicy {
	dns := &policyv1alpha2.NamespacedPod{
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "kube-system"}},
		PodSelector:       metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}}}
	return &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "dns"}, Spec: policyv1alpha2.ClusterNetworkPolicySpec{
		Tier: policyv1alpha2.BaselineTier, Priority: 100,
		Subject: policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
		Egress: []policyv1alpha2.ClusterNetworkPolicyEgressRule{{
			Action:    policyv1alpha2.ClusterNetworkPolicyRuleActionAccept,
			To:        []policyv1alpha2.ClusterNetworkPolicyEgressPeer{{Pods: dns}},
			Protocols: []policyv1alpha2.ClusterNetworkPolicyProtocol{{UDP: &policyv1alpha2.ClusterNetworkPolicyProtocolUDP{DestinationPort: &policyv1alpha2.Port{Number: 53}}}},
		}}}}
}

// applied is the input of guardrails when ann applies the last object of a file to
// the shop, where those before it are there already.
func applied(t *testing.T, file string) Input {
	t.Helper()
	parts := strings.Split(contents(t, file), "\n---\n")
	before, after := shop(), shop()
	in := Input{Source: Admission, Request: Request{Operation: "CREATE", UserInfo: UserInfo{Username: "ann", Groups: []string{"system:authenticated"}}}}
	for i, part := range parts {
		last, name := in.Object, in.Request.Name
		in.Object = put(t, file, part, after, &in)
		if in.Request.Name == name {
			in.OldObject, in.Request.Operation = last, "UPDATE"
		}
		if i < len(parts)-1 {
			put(t, file, part, before, &in)
		}
	}
	in.Effect = effect.Compute(t.Context(), before, after)
	return in
}

// put puts an object in the place of its namesake, and says what is asked about it.
func put(t *testing.T, file, text string, s *compile.Snapshot, in *Input) json.RawMessage {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &meta); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	gvk := meta.GroupVersionKind()
	in.Request.Kind = GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}
	in.Request.Namespace, in.Request.Name = meta.Namespace, meta.Name
	in.Namespace = Namespace{Name: meta.Namespace, Labels: map[string]string{"environment": meta.Namespace}}
	switch gvk.Kind {
	case "NetworkPolicy":
		s.NetworkPolicies = instead(t, file, text, s.NetworkPolicies)
	case "ClusterNetworkPolicy":
		s.ClusterNetworkPolicies = instead(t, file, text, s.ClusterNetworkPolicies)
	case "TierRole":
		s.TierRoles = instead(t, file, text, s.TierRoles)
	default:
		t.Fatalf("%s: what to do with a %s?", file, gvk.Kind)
	}
	return raw
}

func instead[T any, P interface {
	*T
	metav1.Object
}](t *testing.T, file, text string, list []P) []P {
	t.Helper()
	o := P(new(T))
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	list = slices.DeleteFunc(list, func(other P) bool { return other.GetNamespace() == o.GetNamespace() && other.GetName() == o.GetName() })
	return append(list, o)
}

// complaints is what a guardrail says of its example.
func complaints(t *testing.T, name string) []Violation {
	t.Helper()
	r := judge(t, engineOf(t, fromLibrary(name, name)), applied(t, docs+"examples/"+name+".yaml"))
	return slices.Concat(r.Denials, r.Warnings)
}

func TestEachGuardrailStopsItsExample(t *testing.T) {
	for _, entry := range Library() {
		said := complaints(t, entry.Name)
		if len(said) == 0 {
			t.Errorf("%s says nothing about its example, which adds %+v", entry.Name, applied(t, docs+"examples/"+entry.Name+".yaml").Effect.Added)
		}
		in := applied(t, docs+"examples/"+entry.Name+".yaml")
		object := strings.TrimSpace(in.Request.Namespace + "/" + in.Request.Name)
		for _, v := range said {
			if !strings.Contains(v.Message, in.Request.Kind.Kind+" "+strings.TrimPrefix(object, "/")) {
				t.Errorf("%s does not name the object: %s", entry.Name, v.Message)
			}
		}
	}
}

func TestTheSoundExamplePassesTheWholeLibrary(t *testing.T) {
	var all []*v1alpha1.Guardrail
	for _, entry := range Library() {
		all = append(all, fromLibrary(entry.Name, entry.Name))
	}
	if r := judge(t, engineOf(t, all...), applied(t, docs+"examples/sound.yaml")); len(r.Denials)+len(r.Warnings) > 0 {
		t.Errorf("denied:\n%s\nwarned:\n%s", said(r.Denials), said(r.Warnings))
	}
}

func contents(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheGuardrailOfThePageWorks(t *testing.T) {
	g := &v1alpha1.Guardrail{}
	if err := yaml.UnmarshalStrict([]byte(contents(t, docs+"own/no-telnet.yaml")), g); err != nil {
		t.Fatal(err)
	}
	if errs := Validate(t.Context(), g, nil); len(errs) > 0 {
		t.Fatal(errs)
	}
	source := contents(t, docs+"own/no_telnet.rego")
	if g.Spec.Rego != source {
		t.Errorf("the object's Rego is not that of no_telnet.rego:\n%s", g.Spec.Rego)
	}
	if g.Spec.Tests != contents(t, docs+"own/no_telnet_test.rego") {
		t.Errorf("the object's tests are not those of no_telnet_test.rego:\n%s", g.Spec.Tests)
	}
	if _, rules, _ := strings.Cut(source, "package "); !strings.Contains(contents(t, docs+"README.md"), "```rego\npackage "+rules+"```") {
		t.Error("the page does not show no_telnet.rego")
	}
	modules := map[string]*ast.Module{sharedFile: ast.MustParseModule(embeddedFile(sharedFile))}
	files, _ := filepath.Glob(docs + "own/*.rego")
	for _, file := range files {
		modules[file] = ast.MustParseModule(contents(t, file))
	}
	results, err := tester.NewRunner().SetStore(inmem.New()).SetModules(modules).RunTests(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	for r := range results {
		if !r.Pass() {
			t.Errorf("%s failed: %v", r.Name, r.Error)
		}
		passed++
	}
	if passed < 3 {
		t.Errorf("%d tests", passed)
	}
}
