package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
)

// Bounds of what a peer can use. An API server sends a whole review at once.
const (
	headerTimeout = 5 * time.Second  // also of the TLS handshake
	readTimeout   = 10 * time.Second // of a whole request
	writeTimeout  = 30 * time.Second // from the end of the headers to that of the response
	idleTimeout   = 90 * time.Second
	maxHeader     = 16 << 10
	maxBody       = 7 << 20 // two objects of the API server's limit, and the rest of a review
	maxStreams    = 64
	drainTimeout  = 30 * time.Second
)

// admissionEndpoint serves the API server's reviews. It implements webhook.Server of controller-runtime, whose own
// implementation bounds neither connections nor the duration of requests.
type admissionEndpoint struct {
	ctrlwebhook.Server // routes and counts requests

	host    string
	port    int
	tls     *tls.Config
	log     *slog.Logger
	started atomic.Bool
}

// newEndpoint returns an endpoint that is not started.
func newEndpoint(o Options, certificate getCertificate) (*admissionEndpoint, error) {
	secure := &tls.Config{GetCertificate: certificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if err := o.Clients.configureTLS(secure); err != nil {
		return nil, err
	}
	return &admissionEndpoint{host: o.Host, port: o.Port, tls: secure, log: o.Log,
		Server: ctrlwebhook.NewServer(ctrlwebhook.Options{})}, nil
}

// Start serves until ctx ends, and then completes the requests in progress.
func (e *admissionEndpoint) Start(ctx context.Context) error {
	var listening net.ListenConfig
	l, err := listening.Listen(ctx, "tcp", e.listenAddress())
	if err != nil {
		return fmt.Errorf("serve the API server: %w", err)
	}
	return e.serve(ctx, newFairListener(l, maxConnections))
}

func (e *admissionEndpoint) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: newBodyBudget(e.WebhookMux()), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		// Failed handshakes; strangers can cause any number.
		ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
	drained := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		drained <- server.Shutdown(ctx)
	})
	e.started.Store(true)
	if err := server.Serve(tls.NewListener(l, e.tls)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the API server: %w", err)
	}
	return <-drained
}

func (e *admissionEndpoint) listenAddress() string {
	return net.JoinHostPort(e.host, strconv.Itoa(e.port))
}

// StartedChecker returns a checker that connects to the endpoint's own port.
func (e *admissionEndpoint) StartedChecker() healthz.Checker {
	return func(*http.Request) error {
		if !e.started.Load() {
			return errors.New("the webhook's port is not served yet")
		}
		// It is this process itself, which may want a certificate that the check has not.
		dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: headerTimeout}, Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // itself
		c, err := dialer.Dial("tcp", e.listenAddress())
		if err != nil {
			return fmt.Errorf("the webhook's port: %w", err)
		}
		return c.Close()
	}
}
