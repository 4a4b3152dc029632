package delegated

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
)

// apiServer knows the token of prometheus, whose group may get /metrics, and that of nobody.
type apiServer struct {
	asked atomic.Int32
	down  atomic.Bool
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case s.down.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/apis/authentication.k8s.io/v1/tokenreviews":
		var review authenticationv1.TokenReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		name, ok := strings.CutSuffix(review.Spec.Token, "'s token")
		review.Status.Authenticated = ok
		review.Status.User = authenticationv1.UserInfo{Username: name, UID: "1", Groups: []string{name + "s"},
			Extra: map[string]authenticationv1.ExtraValue{"pod": {name + "-0"}}}
		_ = json.NewEncoder(w).Encode(review)
	case r.URL.Path == "/apis/authorization.k8s.io/v1/subjectaccessreviews":
		var review authorizationv1.SubjectAccessReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		spec := review.Spec
		group := slices.Equal(spec.Groups, []string{"scrapers"}) && spec.UID == "1" && spec.Extra["pod"][0] == "scraper-0"
		review.Status.Allowed = (group || spec.User == "twofold") && *spec.NonResourceAttributes ==
			authorizationv1.NonResourceAttributes{Verb: "get", Path: "/metrics"}
		review.Status.Denied = spec.User == "twofold"
		_ = json.NewEncoder(w).Encode(review)
	default:
		http.NotFound(w, r)
	}
}

// guarded is a handler that is guarded by the API server's word, by a clock that stands still.
func guarded(t *testing.T, api *apiServer) (http.Handler, *clocktesting.FakeClock) {
	t.Helper()
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	clock := clocktesting.NewFakeClock(time.Unix(1_800_000_000, 0))
	g, err := newGuard(&rest.Config{Host: server.URL}, slog.New(slog.DiscardHandler), clock)
	if err != nil {
		t.Fatal(err)
	}
	return g.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("secret")) })), clock
}

func status(h http.Handler, method, path, authorization string) int {
	r := httptest.NewRequest(method, path, nil)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if secret := strings.Contains(w.Body.String(), "secret"); secret != (w.Code == http.StatusOK) {
		return -1
	}
	return w.Code
}

func TestOnlyThosePassWhoMay(t *testing.T) {
	h, _ := guarded(t, &apiServer{})
	for _, c := range []struct {
		why, method, path, authorization string
		want                             int
	}{
		{"no token", "GET", "/metrics", "", http.StatusUnauthorized},
		{"an empty token", "GET", "/metrics", "Bearer ", http.StatusUnauthorized},
		{"another scheme", "GET", "/metrics", "Basic scraper's token", http.StatusUnauthorized},
		{"a token of nobody's", "GET", "/metrics", "Bearer made up", http.StatusUnauthorized},
		{"somebody who may not", "GET", "/metrics", "Bearer visitor's token", http.StatusForbidden},
		{"somebody allowed by one and denied by another", "GET", "/metrics", "Bearer twofold's token", http.StatusForbidden},
		{"somebody who may", "GET", "/metrics", "Bearer scraper's token", http.StatusOK},
		{"but not so", "POST", "/metrics", "Bearer scraper's token", http.StatusForbidden},
		{"nor there", "GET", "/debug", "Bearer scraper's token", http.StatusForbidden},
	} {
		for range 2 { // the second time from memory
			if got := status(h, c.method, c.path, c.authorization); got != c.want {
				t.Errorf("%s: status %d, want %d", c.why, got, c.want)
			}
		}
	}
}

func TestAnAnswerIsRememberedForAWhile(t *testing.T) {
	api := &apiServer{}
	h, clock := guarded(t, api)
	ask := func(token string, want int, asked int32) {
		t.Helper()
		if got := status(h, "GET", "/metrics", "Bearer "+token); got != want || api.asked.Load() != asked {
			t.Errorf("status %d after %d questions, want %d after %d", got, api.asked.Load(), want, asked)
		}
	}
	ask("scraper's token", http.StatusOK, 2)
	ask("visitor's token", http.StatusForbidden, 4)
	ask("scraper's token", http.StatusOK, 4)
	clock.Step(denyFor + time.Second)
	ask("visitor's token", http.StatusForbidden, 6)
	ask("scraper's token", http.StatusOK, 6)
	clock.Step(allowFor)
	api.down.Store(true)
	if got := status(h, "GET", "/metrics", "Bearer scraper's token"); got != http.StatusInternalServerError {
		t.Errorf("status %d while the API server is away, want 500", got)
	}
}

func TestFailuresAreNotRemembered(t *testing.T) {
	api := &apiServer{}
	api.down.Store(true)
	h, _ := guarded(t, api)
	if got := status(h, "GET", "/metrics", "Bearer scraper's token"); got != http.StatusInternalServerError {
		t.Errorf("status %d while the API server is away, want 500", got)
	}
	api.down.Store(false)
	if got := status(h, "GET", "/metrics", "Bearer scraper's token"); got != http.StatusOK {
		t.Errorf("status %d once it is back, want 200", got)
	}
}

// from is the status of a token that comes from an address.
func from(h http.Handler, address, token string) int {
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.RemoteAddr = address
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// A peer that sends made-up tokens without end has few of them asked about, and neither evicts the answers for
// others nor uses up their questions.
func TestStrangersDoNotStarveTheMonitoring(t *testing.T) {
	for name, stranger := range map[string]string{"IPv4": "192.0.2.7:%d", "a network of IPv6": "[2001:db8::%x]:1"} {
		t.Run(name, func(t *testing.T) {
			api := &apiServer{}
			h, clock := guarded(t, api)
			if got := from(h, "192.0.2.1:1", "scraper's token"); got != http.StatusOK {
				t.Fatalf("status %d before the strangers", got)
			}
			asked, refused := api.asked.Load(), 0
			for i := range 4 * answers {
				if from(h, fmt.Sprintf(stranger, i+1), fmt.Sprintf("made up %d", i)) == http.StatusTooManyRequests {
					refused++
				}
			}
			if questions := api.asked.Load() - asked; questions > peerBurst || refused != 4*answers-peerBurst {
				t.Errorf("strangers had %d questions asked, and %d of %d requests were too many", questions, refused, 4*answers)
			}
			asked = api.asked.Load()
			if got := from(h, "192.0.2.1:1", "scraper's token"); got != http.StatusOK || api.asked.Load() != asked {
				t.Errorf("status %d: the answer for the monitoring is forgotten", got)
			}
			clock.Step(allowFor + time.Second)
			if got := from(h, fmt.Sprintf(stranger, 1), "scraper's token"); got != http.StatusOK {
				t.Errorf("status %d of a token that was allowed before, from the strangers' address", got)
			}
			if got := from(h, "192.0.2.2:1", "scraper's token"); got != http.StatusOK {
				t.Errorf("status %d of another peer", got)
			}
		})
	}
}
