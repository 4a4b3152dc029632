package cluster

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/tierwall/tierwall/policy"
)

// apiServer serves discovery, empty lists and quiet watches, as an API server
// without a single object would. It can be down, or not yet serve the kinds of CRDs.
type apiServer struct {
	down, withoutCRDs atomic.Bool
}

// served are the resources, by the path of their group and version.
var served = map[string][]metav1.APIResource{
	"/api/v1":                    {{Name: "pods", Kind: "Pod", Namespaced: true}, {Name: "namespaces", Kind: "Namespace"}, {Name: "nodes", Kind: "Node"}},
	"/apis/networking.k8s.io/v1": {{Name: "networkpolicies", Kind: "NetworkPolicy", Namespaced: true}},
	"/apis/policy.networking.k8s.io/v1alpha2": {{Name: "clusternetworkpolicies", Kind: "ClusterNetworkPolicy"}},
	"/apis/tierwall.io/v1alpha1":              {{Name: "tierroles", Kind: "TierRole"}},
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.down.Load() {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	path := strings.TrimSuffix(r.URL.Path, "/")
	if s.discovery(w, path) {
		return
	}
	if resources, ok := served[path]; ok && s.serves(path) {
		for i := range resources {
			resources[i].Verbs = metav1.Verbs{"get", "list", "watch"}
		}
		_ = json.NewEncoder(w).Encode(metav1.APIResourceList{GroupVersion: strings.TrimPrefix(strings.TrimPrefix(path, "/apis/"), "/api/"), APIResources: resources})
		return
	}
	group, resource := path[:max(0, strings.LastIndex(path, "/"))], path[strings.LastIndex(path, "/")+1:]
	for _, known := range served[group] {
		if known.Name == resource && s.serves(group) {
			s.list(w, r, group, known.Kind)
			return
		}
	}
	http.NotFound(w, r)
}

// discovery answers what groups and versions there are.
func (s *apiServer) discovery(w http.ResponseWriter, path string) bool {
	if path == "/api" {
		_ = json.NewEncoder(w).Encode(metav1.APIVersions{Versions: []string{"v1"}})
		return true
	}
	var groups metav1.APIGroupList
	for served := range served {
		group, version, ok := strings.Cut(strings.TrimPrefix(served, "/apis/"), "/")
		if !ok || !strings.HasPrefix(served, "/apis/") || !s.serves(served) {
			continue
		}
		v := metav1.GroupVersionForDiscovery{GroupVersion: group + "/" + version, Version: version}
		g := metav1.APIGroup{Name: group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}
		if path == "/apis/"+group {
			_ = json.NewEncoder(w).Encode(g)
			return true
		}
		groups.Groups = append(groups.Groups, g)
	}
	if path == "/apis" {
		_ = json.NewEncoder(w).Encode(groups)
	}
	return path == "/apis"
}

func (s *apiServer) serves(path string) bool {
	return !s.withoutCRDs.Load() || path == "/api/v1" || strings.HasPrefix(path, "/apis/networking")
}

func (s *apiServer) list(w http.ResponseWriter, r *http.Request, group, kind string) {
	if r.URL.Query().Get("watch") == "true" {
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			http.Error(w, "no streaming lists here", http.StatusBadRequest)
			return
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": kind + "List",
		"apiVersion": strings.TrimPrefix(strings.TrimPrefix(group, "/apis/"), "/api/"),
		"metadata":   map[string]string{"resourceVersion": "1"}, "items": []any{}})
}

// startWatcher starts a Watcher on the API server for the length of the test.
func startWatcher(t *testing.T, s *apiServer) *Watcher {
	t.Helper()
	server := httptest.NewServer(s)
	w, err := New(&rest.Config{Host: server.URL}, policy.Defaults{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Start: %v", err)
		}
		server.CloseClientConnections()
		server.Close()
	})
	return w
}

// syncsWithin says whether the Watcher gets in sync within the time.
func syncsWithin(t *testing.T, w *Watcher, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return w.WaitForSync(ctx) == nil
}

func TestInSyncWhenEveryKindIsKnown(t *testing.T) {
	if w := startWatcher(t, &apiServer{}); !syncsWithin(t, w, 20*time.Second) {
		t.Error("not in sync with an API server that serves everything")
	}
}

// An API server that has just started may serve before it knows its CRDs.
// Policies that are not seen yet must not count as policies that are not there.
func TestNotInSyncWhileAKindIsNotServed(t *testing.T) {
	s := &apiServer{}
	s.withoutCRDs.Store(true)
	w := startWatcher(t, s)
	if syncsWithin(t, w, time.Second) {
		t.Fatal("in sync without ClusterNetworkPolicies and TierRoles")
	}
	s.withoutCRDs.Store(false)
	if !syncsWithin(t, w, 20*time.Second) {
		t.Error("not in sync once the kinds are served")
	}
}

func TestWaitsForAnAPIServerThatIsAway(t *testing.T) {
	s := &apiServer{}
	s.down.Store(true)
	w := startWatcher(t, s)
	if syncsWithin(t, w, time.Second) {
		t.Fatal("in sync with an API server that does not answer")
	}
	s.down.Store(false)
	if !syncsWithin(t, w, 20*time.Second) {
		t.Error("not in sync once the API server answers")
	}
}
