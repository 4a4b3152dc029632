package audit

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
)

// resourceLists are what an API server serves.
type resourceLists []*metav1.APIResourceList

func (r resourceLists) ServerPreferredResources() ([]*metav1.APIResourceList, error) { return r, nil }

// otherEngine serves kinds of other engines, of which the objects exist.
func otherEngine(t *testing.T, objects ...runtime.Object) (*OtherEngines, *metadatafake.FakeMetadataClient, *bytes.Buffer) {
	t.Helper()
	served := resourceLists{
		{GroupVersion: "projectcalico.org/v3", APIResources: []metav1.APIResource{
			{Name: "globalnetworkpolicies", Kind: "GlobalNetworkPolicy", Verbs: metav1.Verbs{"list"}},
			{Name: "globalnetworkpolicies/status", Kind: "GlobalNetworkPolicy", Verbs: metav1.Verbs{"get"}},
			{Name: "ippools", Kind: "IPPool", Verbs: metav1.Verbs{"list"}}}},
		{GroupVersion: "crd.projectcalico.org/v1", APIResources: []metav1.APIResource{{Name: "globalnetworkpolicies", Kind: "GlobalNetworkPolicy", Verbs: metav1.Verbs{"list"}}}},
		{GroupVersion: "policy.networking.k8s.io/v1alpha1", APIResources: []metav1.APIResource{{Name: "adminnetworkpolicies", Kind: "AdminNetworkPolicy", Verbs: metav1.Verbs{"list"}}}},
		{GroupVersion: "networking.k8s.io/v1", APIResources: []metav1.APIResource{{Name: "networkpolicies", Kind: "NetworkPolicy", Verbs: metav1.Verbs{"list"}}}},
	}
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	client := metadatafake.NewSimpleMetadataClient(scheme, objects...)
	var log bytes.Buffer
	return &OtherEngines{Served: served, Client: client, Log: slog.New(slog.NewTextHandler(&log, nil))}, client, &log
}

func policyOf(group, version, kind, name string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: group + "/" + version, Kind: kind}, ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func TestPoliciesOfOtherEnginesAreCounted(t *testing.T) {
	o, _, log := otherEngine(t, policyOf("projectcalico.org", "v3", "GlobalNetworkPolicy", "a"), policyOf("projectcalico.org", "v3", "GlobalNetworkPolicy", "b"),
		policyOf("crd.projectcalico.org", "v1", "GlobalNetworkPolicy", "a"), policyOf("policy.networking.k8s.io", "v1alpha1", "AdminNetworkPolicy", "x"),
		policyOf("networking.k8s.io", "v1", "NetworkPolicy", "ours"))
	o.countPolicies(t.Context())
	for labels, want := range map[[2]string]float64{{"projectcalico.org", "GlobalNetworkPolicy"}: 2, {"policy.networking.k8s.io", "AdminNetworkPolicy"}: 1} {
		if got := testutil.ToFloat64(otherPolicies.WithLabelValues(labels[0], labels[1])); got != want {
			t.Errorf("%v: %v, want %v", labels, got, want)
		}
	}
	if n := testutil.CollectAndCount(otherPolicies); n != 2 {
		t.Errorf("%d kinds are counted", n)
	}
	if !strings.Contains(log.String(), "2 GlobalNetworkPolicies (projectcalico.org) here are not enforced by tierwall") {
		t.Errorf("log: %s", log)
	}
	log.Reset()
	if o.countPolicies(t.Context()); log.Len() > 0 {
		t.Errorf("logged again: %s", log)
	}
}

// What may not be listed is said once, and hides nothing else.
func TestKindsThatCannotBeCountedAreReported(t *testing.T) {
	o, client, log := otherEngine(t, policyOf("policy.networking.k8s.io", "v1alpha1", "AdminNetworkPolicy", "x"))
	client.PrependReactor("list", "globalnetworkpolicies", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("forbidden")
	})
	o.countPolicies(t.Context())
	o.countPolicies(t.Context())
	if n := strings.Count(log.String(), "counting policies of other engines failed"); n != 1 || !strings.Contains(log.String(), "GlobalNetworkPolicies (projectcalico.org): forbidden") {
		t.Errorf("log: %s", log)
	}
	if got := testutil.ToFloat64(otherPolicies.WithLabelValues("policy.networking.k8s.io", "AdminNetworkPolicy")); got != 1 {
		t.Errorf("%v AdminNetworkPolicies", got)
	}
}
