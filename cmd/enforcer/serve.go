package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/pathcheck"
)

// serveHealth serves /healthz, which says that the agent's loop goes round, and /readyz,
// which says that what the cluster asks for is in force in the kernel, and that no packet passes beside it.
func serveHealth(ctx context.Context, addr string, agent *enforcer.Enforcer, paths *pathcheck.Checker) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", probeHandler(func() error {
		if !agent.InForce() {
			return errors.New("the policies of the cluster are not in force on this node yet")
		}
		return paths.Open()
	}))
	mux.HandleFunc("/healthz", probeHandler(func() error {
		if still := agent.Stuck(); still > 0 {
			return fmt.Errorf("the agent's loop has stood still for %v", still)
		}
		return nil
	}))
	return serveHTTP(ctx, addr, mux, nil)
}

// probeHandler answers a probe of the kubelet.
func probeHandler(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte("ok"))
	}
}

// serveMetrics serves /metrics over HTTPS, to those whom the guard lets.
func serveMetrics(ctx context.Context, addr string, registry *prometheus.Registry, guard func(http.Handler) http.Handler, certificate *metricsCertificate) error {
	mux := http.NewServeMux()
	mux.Handle("/metrics", guard(promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError})))
	return serveHTTP(ctx, addr, mux, &tls.Config{GetCertificate: certificate.GetCertificate, MinVersion: tls.VersionTLS12})
}

// selfSigned is a certificate that nobody can verify.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), DNSNames: []string{"localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), // nobody verifies it
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// connections are served at a time; more wait. Whoever can reach the node can open some, and each takes memory.
const connections = 64

// serveHTTP answers until ctx ends, with TLS unless secure is nil.
func serveHTTP(ctx context.Context, addr string, handler http.Handler, secure *tls.Config) error {
	var listening net.ListenConfig
	l, err := listening.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("serve %s: %w", addr, err)
	}
	l = netutil.LimitListener(l, connections)
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	server := &http.Server{Handler: handler, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 90 * time.Second, MaxHeaderBytes: 1 << 16}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", addr, err)
	}
	return nil
}
