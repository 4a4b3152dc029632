package server

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tierwall/tierwall/webhook/peer"
)

// issuer is a certificate authority.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return issuer{cert, key}
}

func (i issuer) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
}

func (i issuer) issue(t *testing.T, name string, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, &key.PublicKey, i.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start serves a path that shows whether the peer is authenticated, and returns the address.
func start(t *testing.T, clients ClientOptions, connections int) string {
	t.Helper()
	serving := newIssuer(t).issue(t, "webhook", x509.ExtKeyUsageServerAuth)
	e, err := newEndpoint(Options{Clients: clients, Log: slog.New(slog.DiscardHandler)},
		func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &serving, nil })
	must(t, err)
	e.Register("/who", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = fmt.Fprint(w, peer.IdentityFrom(peer.WithIdentity(r.Context(), r)).Authenticated)
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.serve(ctx, newFairListener(l, connections)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// ask asks /who with a certificate, or without one.
func ask(t *testing.T, addr string, certificate *tls.Certificate, body io.Reader) (string, error) {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true}
	if certificate != nil {
		config.Certificates = []tls.Certificate{*certificate}
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Post("https://"+addr+"/who", "application/json", body)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusOK {
		return "", errors.New(answer.Status)
	}
	return string(text), err
}

func TestClientCertificates(t *testing.T) {
	cluster, other := newIssuer(t), newIssuer(t)
	file := filepath.Join(t.TempDir(), "client-ca.pem")
	must(t, os.WriteFile(file, cluster.pem(), 0o600))
	apiServer := cluster.issue(t, "kube-apiserver", x509.ExtKeyUsageClientAuth)
	node := cluster.issue(t, "system:node:a", x509.ExtKeyUsageClientAuth)
	serving := cluster.issue(t, "kube-apiserver", x509.ExtKeyUsageServerAuth)
	forged := other.issue(t, "kube-apiserver", x509.ExtKeyUsageClientAuth)
	named := ClientOptions{CAFile: file, Names: []string{"kube-apiserver"}}
	for _, c := range []struct {
		name        string
		clients     ClientOptions
		certificate *tls.Certificate
		want        string // empty is refused
	}{
		{"nobody is asked for one", ClientOptions{}, nil, "false"},
		{"one that nobody asked for counts for nothing", ClientOptions{}, &apiServer, "false"},
		{"none", named, nil, ""},
		{"of the API server", named, &apiServer, "true"},
		{"of a kubelet", named, &node, ""},
		{"of a kubelet, where all names are accepted", ClientOptions{CAFile: file}, &node, "true"},
		{"of another authority", named, &forged, ""},
		{"of another authority, where all names are accepted", ClientOptions{CAFile: file}, &forged, ""},
		{"for a server", named, &serving, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ask(t, start(t, c.clients, maxConnections), c.certificate, nil)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("got %q and error %v, want %q", got, err, c.want)
			}
		})
	}
	t.Run("the authority is replaced", func(t *testing.T) {
		addr := start(t, named, maxConnections)
		must(t, os.WriteFile(file, other.pem(), 0o600))
		if got, err := ask(t, addr, &forged, nil); got != "true" {
			t.Errorf("of the new authority: %q, %v", got, err)
		}
		if _, err := ask(t, addr, &apiServer, nil); err == nil {
			t.Error("the old authority is still accepted")
		}
		must(t, os.WriteFile(file, []byte("none"), 0o600))
		if _, err := ask(t, addr, &forged, nil); err == nil {
			t.Error("a certificate is accepted without an authority")
		}
	})
}

func TestClientOptionsThatMakeNoSense(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	must(t, os.WriteFile(empty, nil, 0o600))
	for want, clients := range map[string]ClientOptions{
		"without an authority": {Names: []string{"kube-apiserver"}},
		"no such file":         {CAFile: empty + ".none"},
		"no certificate in":    {CAFile: empty},
	} {
		if err := clients.configureTLS(&tls.Config{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", clients, err, want)
		}
	}
}

// endlessly is a body that does not say how long it is.
type endlessly struct{ left int }

func (e *endlessly) Read(b []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(len(b), e.left)
	e.left -= n
	return n, nil
}

func TestRequestsThatAreTooLarge(t *testing.T) {
	addr := start(t, ClientOptions{}, maxConnections)
	for name, body := range map[string]io.Reader{
		"a length that is too large": strings.NewReader(strings.Repeat("x", maxBody+1)),
		"no length":                  &endlessly{maxBody + 1},
	} {
		if got, err := ask(t, addr, nil, body); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got, err := ask(t, addr, nil, strings.NewReader(strings.Repeat("x", maxBody))); err != nil {
		t.Errorf("the largest: %q, %v", got, err)
	}
}

// Connections that say nothing, from one address, end for others of that address when there are too many.
func TestConnectionsThatSayNothingDoNotKeepOthersOut(t *testing.T) {
	const limit = 4
	addr := start(t, ClientOptions{}, limit)
	var silent []net.Conn
	for range 3 * limit {
		c, err := net.Dial("tcp", addr)
		must(t, err)
		defer c.Close()
		silent = append(silent, c)
	}
	if got, err := ask(t, addr, nil, nil); got != "false" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := bufio.NewReader(silent[0]).ReadByte(); err == nil {
		t.Error("the oldest is still served")
	}
}

// address is the text of a net.Addr.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// pipeFrom is a connection that seems to come from an address.
type pipeFrom struct {
	net.Conn
	from string
}

func (p pipeFrom) RemoteAddr() net.Addr { return address(p.from) }

// queue is a listener of given connections.
type queue struct {
	net.Listener
	conns chan net.Conn
}

func (q queue) Accept() (net.Conn, error) { return <-q.conns, nil }

func TestThePeerWithMostConnectionsLosesOne(t *testing.T) {
	const limit = 6
	for name, strangers := range map[string][]string{
		"one address":          {"192.0.2.7:%d"},
		"two addresses":        {"192.0.2.7:%d", "192.0.2.8:%d"},
		"a network of IPv6":    {"[2001:db8::%x]:1"},
		"IPv4 written as IPv6": {"[::ffff:192.0.2.7]:%d"},
	} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan net.Conn, 1)
			l := newFairListener(queue{conns: conns}, limit)
			accept := func(from string) net.Conn {
				near, far := net.Pipe()
				t.Cleanup(func() { near.Close(); far.Close() })
				conns <- pipeFrom{near, from}
				if _, err := l.Accept(); err != nil {
					t.Fatal(err)
				}
				return far
			}
			apiServer := accept("192.0.2.1:1")
			for i := range 50 {
				accept(fmt.Sprintf(strangers[i%len(strangers)], i+1))
			}
			second := accept("192.0.2.1:2")
			for _, c := range []net.Conn{apiServer, second} {
				if own := len(l.byPeer[peer.NetworkOf("192.0.2.1:1")]); own != 2 || l.total != limit {
					t.Errorf("the API server has %d connections of %d: %v", own, l.total, c.LocalAddr())
				}
			}
		})
	}
}

func TestAClosedConnectionMakesRoomOnce(t *testing.T) {
	conns := make(chan net.Conn, 1)
	l := newFairListener(queue{conns: conns}, 10)
	near, far := net.Pipe()
	defer far.Close()
	conns <- pipeFrom{near, "192.0.2.1:1"}
	c, err := l.Accept()
	must(t, err)
	_, _ = c.Close(), c.Close()
	if l.total != 0 || len(l.byPeer) != 0 {
		t.Errorf("%d connections of %v are left", l.total, l.byPeer)
	}
}

// A peer whose requests are large waits for itself: another is served.
func TestLargeRequestsWaitForTheirOwnPeer(t *testing.T) {
	inside, release := make(chan string, 20), make(chan struct{})
	b := newBodyBudget(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		inside <- r.RemoteAddr
		<-release
	}))
	serve := func(from string) chan struct{} {
		done := make(chan struct{})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/who", &endlessly{maxBody})
		must(t, err)
		r.RemoteAddr, r.ContentLength = from, maxBody
		go func() { defer close(done); b.ServeHTTP(nil, r) }()
		return done
	}
	var all []chan struct{}
	for range 10 {
		all = append(all, serve("192.0.2.7:1"))
	}
	for range maxBodiesOfPeer / maxBody {
		<-inside
	}
	all = append(all, serve("192.0.2.1:1"))
	if from := <-inside; from != "192.0.2.1:1" {
		t.Errorf("a request of %s is served, want one of another peer", from)
	}
	close(release)
	for _, done := range all {
		<-done
	}
	if len(b.peers) != 0 {
		t.Errorf("peers %v are remembered", b.peers)
	}
}
