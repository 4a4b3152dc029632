// Package apiserver runs a kube-apiserver with its etcd, without nodes, for tests.
package apiserver

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/netns"
)

// The users; a user's token is its name.
const (
	Admin   = "admin"
	Webhook = "system:serviceaccount:tierwall-system:tierwall-webhook"
)

// startTimeout is long: how fast a machine is, is no test.
const startTimeout = 5 * time.Minute

// Server is a kube-apiserver with its etcd, on loopback.
type Server struct {
	Options
	url  string
	stop []func()
}

// Options are where a server runs.
type Options struct {
	// Dir is an empty folder for what it writes.
	Dir string
	// Namespace is a file of the network namespace whose loopback it listens on; empty is this process's.
	Namespace string
	// Dial connects to it from here; nil is the usual way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Flags are more flags of kube-apiserver.
	Flags []string
}

// Start starts both and waits until they answer. Close is due after an error, too.
func Start(ctx context.Context, o Options) (*Server, error) {
	s := &Server{Options: o}
	ports, err := FreePorts(3)
	if err != nil {
		return s, err
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	s.url = fmt.Sprintf("https://127.0.0.1:%d", ports[2])
	if err := s.start("etcd", "--data-dir="+filepath.Join(o.Dir, "etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls="+client, "--advertise-client-urls="+client, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer); err != nil {
		return s, err
	}
	flags, err := s.flags(client, ports[2])
	if err != nil {
		return s, err
	}
	if err := s.start("kube-apiserver", append(flags, s.Flags...)...); err != nil {
		return s, err
	}
	return s, s.wait(ctx)
}

func (s *Server) flags(etcd string, port int) ([]string, error) {
	key, err := s.writeKey()
	if err != nil {
		return nil, err
	}
	tokens := filepath.Join(s.Dir, "tokens.csv")
	lines := fmt.Sprintf("%s,%s,1,system:masters\n%s,%s,2,\"system:serviceaccounts,system:serviceaccounts:tierwall-system\"\n",
		Admin, Admin, Webhook, Webhook)
	if err := os.WriteFile(tokens, []byte(lines), 0o600); err != nil {
		return nil, err
	}
	return []string{
		"--etcd-servers=" + etcd, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--cert-dir=" + filepath.Join(s.Dir, "certs"), "--service-cluster-ip-range=10.0.0.0/24",
		"--endpoint-reconciler-type=none", "--authorization-mode=RBAC", "--token-auth-file=" + tokens,
		"--allow-privileged=true", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
	}, nil
}

// writeKey writes the key that service account tokens are signed with.
func (s *Server) writeKey() (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.Dir, "service-account.key")
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return path, os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

// start starts a program that ends with the test at the latest.
func (s *Server) start(program string, args ...string) error {
	path, err := cluster.Program(program)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.Dir, program+".log"))
	if err != nil {
		return err
	}
	cmd := exec.Command(path, args...)
	if s.Namespace != "" {
		cmd = exec.Command("nsenter", append([]string{"--net=" + s.Namespace, path}, args...)...)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := netns.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	s.stop = append(s.stop, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
	})
	return nil
}

// Close ends both.
func (s *Server) Close() {
	for i := len(s.stop) - 1; i >= 0; i-- {
		s.stop[i]()
	}
}

// wait waits until the API server is ready.
func (s *Server) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		if client, err := kubernetes.NewForConfig(s.Config(Admin)); err == nil {
			if last = client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); last == nil {
				return nil
			}
		} else {
			last = err // it has not made its certificate yet
		}
		time.Sleep(50 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(s.Dir, "kube-apiserver.log"))
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return fmt.Errorf("kube-apiserver is not ready after %v: %w\n%s", startTimeout, last,
		strings.Join(lines[max(0, len(lines)-20):], "\n"))
}

// Config is for a client that is the user.
func (s *Server) Config(user string) *rest.Config {
	return &rest.Config{
		Host: s.url, BearerToken: user, QPS: -1, Dial: s.Dial,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(s.Dir, "certs", "apiserver.crt")},
	}
}

// FreePorts are ports of the loopback interface that nobody listens on. They are below those that the kernel gives
// to outgoing connections, one of which could take a port before the caller listens on it.
func FreePorts(n int) ([]int, error) {
	const first, last, tries = 20000, 30000, 1000
	var out []int
	for range tries {
		port := first + mathrand.IntN(last-first)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close()
		if out = append(out, port); len(out) == n {
			return out, nil
		}
	}
	return nil, fmt.Errorf("found %d of %d free ports between %d and %d", len(out), n, first, last)
}
