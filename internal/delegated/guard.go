// Package delegated guards HTTP handlers by the API server's word: a TokenReview says who calls, and a
// SubjectAccessReview whether they may, as with the non-resource URLs of Kubernetes' own components.
//
// k8s.io/apiserver has the same, and brings all of an API server into the process: some 20 MB of the
// machine's memory, which is much where the process is on every node.
package delegated

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

const (
	// allowFor and denyFor are for how long an answer is believed.
	allowFor, denyFor = time.Minute, 10 * time.Second
	// answers is how many are remembered of those that allow, and of those that do not.
	answers = 256
	// provenFor is for how long a token that was allowed is told apart from those of strangers.
	provenFor = 24 * time.Hour
	// patience is how long the API server may take for both questions.
	patience = 10 * time.Second
	// questions a second are asked about proven tokens, and as many about all others; burst at once.
	questions, burst = 20, 30
)

// Guard lets those pass who may.
//
// Tokens are whatever anybody sends. So that strangers' do not starve those of the monitoring, tokens that were
// allowed before have questions and answers of their own, and a peer may ask about few others.
type Guard struct {
	proven, strangers reviewer
	log               *slog.Logger
	// The caches hold an HTTP status by call, and a call's token that was allowed.
	allowed, refused, tokens *cache.LRUExpireCache
	peers                    *peers
}

// reviewer asks the API server, at a rate of its own.
type reviewer struct{ authentication, authorization rest.Interface }

// call is a method and a path, and who asks for it, by a hash of their token.
type call struct {
	token        [sha256.Size]byte
	method, path string
}

// New makes a Guard that asks the API server of the configuration. Its user needs to be allowed to create
// tokenreviews and subjectaccessreviews.
func New(config *rest.Config, log *slog.Logger) (*Guard, error) {
	return newGuard(config, log, clock.RealClock{})
}

func newGuard(config *rest.Config, log *slog.Logger, now clock.Clock) (*Guard, error) {
	proven, err := newReviewer(config)
	if err != nil {
		return nil, err
	}
	strangers, err := newReviewer(config)
	if err != nil {
		return nil, err
	}
	remember := func() *cache.LRUExpireCache { return cache.NewLRUExpireCacheWithClock(answers, now) }
	return &Guard{proven: proven, strangers: strangers, log: log,
		allowed: remember(), refused: remember(), tokens: remember(), peers: newPeers(now)}, nil
}

func newReviewer(config *rest.Config) (reviewer, error) {
	authentication, err := clientFor(config, authenticationv1.SchemeGroupVersion, authenticationv1.AddToScheme)
	if err != nil {
		return reviewer{}, err
	}
	authorization, err := clientFor(config, authorizationv1.SchemeGroupVersion, authorizationv1.AddToScheme)
	return reviewer{authentication, authorization}, err
}

func clientFor(config *rest.Config, version schema.GroupVersion, add func(*runtime.Scheme) error) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := add(scheme); err != nil {
		return nil, fmt.Errorf("register the types of %s: %w", version, err)
	}
	config = rest.CopyConfig(config)
	config.GroupVersion, config.APIPath, config.QPS, config.Burst = &version, "/apis", questions, burst
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make an API client for %s: %w", version, err)
	}
	return client, nil
}

// Handler is the handler for those who may.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || token == "" {
			http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
			return
		}
		status, err := g.judge(r, token)
		if err != nil {
			g.log.Error("could not ask the API server who may read this", "path", r.URL.Path, "err", err)
			status = http.StatusInternalServerError
		}
		if status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// judge is the HTTP status for a call, OK for those who may.
func (g *Guard) judge(r *http.Request, token string) (int, error) {
	key := call{sha256.Sum256([]byte(token)), r.Method, r.URL.Path}
	for _, answers := range []*cache.LRUExpireCache{g.allowed, g.refused} {
		if known, ok := answers.Get(key); ok {
			return known.(int), nil
		}
	}
	asks := g.proven
	if _, ok := g.tokens.Get(key.token); !ok {
		if !g.peers.mayAsk(r.RemoteAddr) {
			return http.StatusTooManyRequests, nil
		}
		asks = g.strangers
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	status, err := asks.ask(ctx, token, r.Method, r.URL.Path)
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		g.refused.Add(key, status, denyFor)
		return status, nil
	}
	g.allowed.Add(key, status, allowFor)
	g.tokens.Add(key.token, true, provenFor)
	return status, nil
}

func (g reviewer) ask(ctx context.Context, token, method, path string) (int, error) {
	who := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	if err := g.authentication.Post().Resource("tokenreviews").Body(who).Do(ctx).Into(who); err != nil {
		return 0, fmt.Errorf("ask whose token it is: %w", err)
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	user := who.Status.User
	may := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: map[string]authorizationv1.ExtraValue{},
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: strings.ToLower(method), Path: path}}}
	for key, values := range user.Extra {
		may.Spec.Extra[key] = authorizationv1.ExtraValue(values)
	}
	if err := g.authorization.Post().Resource("subjectaccessreviews").Body(may).Do(ctx).Into(may); err != nil {
		return 0, fmt.Errorf("ask whether %s may %s %s: %w", user.Username, method, path, err)
	}
	if !may.Status.Allowed || may.Status.Denied {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}
