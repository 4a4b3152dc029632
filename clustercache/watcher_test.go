package clustercache

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/tierwall/tierwall/policy"
)

// apiServer serves discovery, lists and watches, as an API server does whose only objects are
// pods. It can be down, or not yet serve the kinds of CRDs.
type apiServer struct {
	down, withoutCRDs atomic.Bool
	// streams reports whether lists can be had as a watch (KEP-3157).
	streams bool

	mu   sync.Mutex
	pods map[string]*corev1.Pod
	// watchers get what happens to the pods until they are cut off.
	watchers []chan metav1.WatchEvent
	// events are what happened since the last list.
	events []metav1.WatchEvent
	// expired says that events were missed, so that all has to be listed anew.
	expired bool
}

// set shows a pod, or with nil shows that it is gone.
func (s *apiServer) set(name string, p *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	event := metav1.WatchEvent{Type: "ADDED"}
	was := s.pods[name]
	if was != nil {
		event.Type = "MODIFIED"
	}
	if s.pods[name], event.Object.Object = p, p; p == nil {
		event.Type, event.Object.Object = "DELETED", was
		delete(s.pods, name)
	}
	s.events = append(s.events, event)
	for _, w := range s.watchers {
		w <- event
	}
}

// cut ends all watches, so that what happens next is not told.
func (s *apiServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watchers {
		close(w)
	}
	s.watchers, s.expired = nil, true
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
	version := strings.TrimPrefix(strings.TrimPrefix(group, "/apis/"), "/api/")
	if r.URL.Query().Get("watch") == "true" {
		s.watch(w, r, version, kind)
		return
	}
	items := []any{}
	if s.mu.Lock(); kind == "Pod" {
		s.expired, s.events = false, nil
		for _, p := range s.pods {
			items = append(items, p)
		}
	}
	s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": kind + "List", "apiVersion": version,
		"metadata": map[string]string{"resourceVersion": "1"}, "items": items})
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, version, kind string) {
	initial := r.URL.Query().Get("sendInitialEvents") == "true"
	if initial && !s.streams {
		http.Error(w, "no streaming lists here", http.StatusBadRequest)
		return
	}
	encoder := json.NewEncoder(w)
	events := make(chan metav1.WatchEvent, 100)
	s.mu.Lock()
	if kind == "Pod" && initial {
		s.expired, s.events = false, nil
	}
	if kind == "Pod" && s.expired {
		s.mu.Unlock()
		w.WriteHeader(http.StatusGone)
		_ = encoder.Encode(apierrors.NewResourceExpired("too old").Status())
		return
	}
	if initial && kind == "Pod" {
		for _, p := range s.pods {
			_ = encoder.Encode(map[string]any{"type": "ADDED", "object": p})
		}
	}
	if kind == "Pod" {
		for _, e := range s.events {
			events <- e
		}
		s.watchers = append(s.watchers, events)
	}
	s.mu.Unlock()
	if initial {
		_ = encoder.Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{"kind": kind, "apiVersion": version, "metadata": map[string]any{
			"resourceVersion": "1", "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}})
	}
	for {
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			_ = encoder.Encode(map[string]any{"type": e.Type, "object": e.Object.Object})
		}
	}
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

// shown is a pod as the API server shows it.
func shown(name, app string) *corev1.Pod {
	p := named(name)
	p.TypeMeta = metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}
	p.ResourceVersion, p.Labels = "1", map[string]string{"app": app}
	return p
}

// knows waits until the Watcher knows exactly the pods with the labels.
func knows(t *testing.T, w *Watcher, want map[string]string) {
	t.Helper()
	var got map[string]string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		got = map[string]string{}
		for _, p := range w.Snapshot().Pods {
			got[p.Name] = p.Labels["app"]
		}
		if maps.Equal(got, want) {
			return
		}
	}
	t.Errorf("knows %v, want %v", got, want)
}

func TestKnowsWhatTheAPIServerShows(t *testing.T) {
	for _, streams := range []bool{false, true} {
		t.Run(fmt.Sprint("streaming lists: ", streams), func(t *testing.T) {
			s := &apiServer{streams: streams, pods: map[string]*corev1.Pod{"a": shown("a", "web"), "b": shown("b", "web")}}
			w := startWatcher(t, s)
			if !syncsWithin(t, w, 20*time.Second) {
				t.Fatal("not in sync")
			}
			if got := names(w.Take()); !maps.Equal(got, map[string]bool{"a": true, "b": true}) {
				t.Errorf("in sync with %v", got)
			}
			s.set("b", shown("b", "db"))
			s.set("c", shown("c", "web"))
			s.set("a", nil)
			knows(t, w, map[string]string{"b": "db", "c": "web"})
			s.cut()
			s.set("b", nil)
			s.set("d", shown("d", "web"))
			knows(t, w, map[string]string{"c": "web", "d": "web"})
			want := map[string]bool{"a": false, "b": false, "c": true, "d": true}
			if got := names(w.Take()); !maps.Equal(got, want) {
				t.Errorf("takes %v, want %v", got, want)
			}
		})
	}
}

// syncsWithin reports whether the Watcher gets in sync within the time.
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

// What was known stays known while the API server is away, and what happened in the meantime is
// learnt when it is back, its history being gone (410 Gone), as after etcd was restored or compacted.
func TestKnowsWhatItKnewWhileTheAPIServerIsAway(t *testing.T) {
	s := &apiServer{pods: map[string]*corev1.Pod{"a": shown("a", "web"), "b": shown("b", "web")}}
	w := startWatcher(t, s)
	if !syncsWithin(t, w, 20*time.Second) {
		t.Fatal("not in sync")
	}
	w.Take()
	s.down.Store(true)
	s.cut()
	s.set("a", nil)
	s.set("b", shown("b", "db"))
	time.Sleep(time.Second)
	knows(t, w, map[string]string{"a": "web", "b": "web"})
	if !w.Synced() || w.Take().Len() != 0 {
		t.Error("an API server that is away counts as a change")
	}
	s.down.Store(false)
	knows(t, w, map[string]string{"b": "db"})
	if got := names(w.Take()); !maps.Equal(got, map[string]bool{"a": false, "b": true}) {
		t.Errorf("takes %v", got)
	}
}
