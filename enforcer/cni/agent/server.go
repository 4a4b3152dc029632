// Package agent answers the node's CNI plugin: a pod gets its network when its rules are in force.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/enforcer/cni"
)

// Cluster records attachments of pods. clustercache.Watcher implements it.
type Cluster interface {
	Attach(ctx context.Context, node string, a clustercache.Attachment) error
	Detach(pod types.NamespacedName, container string)
	DetachAll(gone func(clustercache.Attachment) bool)
}

// Loop waits until rules are in force. enforcer.Enforcer implements it.
type Loop interface {
	Await(ctx context.Context, namespace, name string, addrs []netip.Addr) error
}

// Server answers the plugin. All fields are required.
type Server struct {
	// Socket is the path to listen at. Its directory is created if it is missing.
	Socket  string
	Node    string
	Cluster Cluster
	Loop    Loop
	Log     *slog.Logger
}

const (
	// maxRequest bounds a request, in bytes; one of GC names every container of the node.
	maxRequest = 1 << 20
	// maxWait is the longest that a request may ask to wait.
	maxWait = time.Minute
	// readTimeout bounds reading a request, and writing the answer.
	readTimeout = 5 * time.Second
	// maxCalls bounds the concurrent calls; further ones wait.
	maxCalls = 256
	// maxAddrs is how many addresses a request may have, one of each IP family.
	maxAddrs = 2
)

// Start answers until ctx ends. If it cannot listen it retries instead of failing, since the agent still serves the
// running pods.
func (s *Server) Start(ctx context.Context) error {
	l, err := listenAt(ctx, s.Socket)
	for err != nil {
		s.Log.Error("listening for the CNI plugin failed; retrying", "err", err)
		pauseBriefly(ctx)
		if ctx.Err() != nil {
			return nil
		}
		l, err = listenAt(ctx, s.Socket)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	s.Log.Info("listening for the CNI plugin", "socket", s.Socket)
	var calls sync.WaitGroup
	defer calls.Wait()
	free := make(chan struct{}, maxCalls)
	for {
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.Log.Error("accepting a connection of the CNI plugin failed; retrying", "err", err)
			pauseBriefly(ctx)
			continue
		}
		free <- struct{}{}
		calls.Go(func() {
			defer func() { <-free }()
			s.serveRequest(ctx, conn)
		})
	}
}

func pauseBriefly(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(readTimeout / 10):
	}
}

// listenAt creates the socket, and atomically replaces that of an earlier agent.
func listenAt(ctx context.Context, socket string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	next := socket + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", next)
	if err != nil {
		return nil, err
	}
	out := l.(*net.UnixListener)
	out.SetUnlinkOnClose(false) // it may be that of the next agent by then
	if err := errors.Join(os.Chmod(next, 0o600), os.Rename(next, socket)); err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

// serveRequest answers one request.
func (s *Server) serveRequest(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	if err := checkPeerIsRoot(conn); err != nil {
		s.Log.Warn("caller of the CNI socket refused", "err", err)
		return
	}
	var r cni.Request
	_ = conn.SetReadDeadline(time.Now().Add(readTimeout))
	if err := json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&r); err != nil {
		s.Log.Warn("reading a CNI request failed", "err", err)
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(ctx, max(0, min(r.Timeout, maxWait)))
	defer cancel()
	go func() { // ends with the connection
		_, _ = io.Copy(io.Discard, conn) // ends when a killed plugin's connection closes
		cancel()
	}()
	var a cni.Answer
	start := time.Now()
	err := s.handleRequest(ctx, r)
	if err != nil {
		a.Missing = err.Error()
		s.Log.Warn("pod rules not ready; failing the CNI request", "verb", r.Verb, "pod", r.Namespace+"/"+r.Name, "err", err)
	}
	observeWait(r.Verb, time.Since(start), err)
	_ = conn.SetWriteDeadline(time.Now().Add(readTimeout))
	_ = json.NewEncoder(conn).Encode(a)
}

// checkPeerIsRoot refuses callers other than root and the agent's own user, whatever the socket's mode.
func checkPeerIsRoot(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(controlErr, err); err != nil {
		return fmt.Errorf("read the credentials of the caller: %w", err)
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("the caller is user %d, process %d, not root", peer.Uid, peer.Pid)
	}
	return nil
}

func (s *Server) handleRequest(ctx context.Context, r cni.Request) error {
	pod := types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
	if len(r.Addrs) > maxAddrs {
		return fmt.Errorf("pod %s has %d addresses, more than one of each IP family", pod, len(r.Addrs))
	}
	switch r.Verb {
	case cni.Add:
		a := clustercache.Attachment{Pod: pod, UID: types.UID(r.UID), Container: r.Container, Addrs: r.Addrs}
		if err := s.Cluster.Attach(ctx, s.Node, a); err != nil {
			return err
		}
		if err := s.Loop.Await(ctx, r.Namespace, r.Name, r.Addrs); err != nil {
			return err
		}
		s.Log.Debug("rules of a new pod in force", "pod", pod, "addrs", r.Addrs)
		return nil
	case cni.Check:
		return s.Loop.Await(ctx, r.Namespace, r.Name, r.Addrs)
	case cni.Del:
		s.Cluster.Detach(pod, r.Container)
		return nil
	case cni.GC:
		s.Cluster.DetachAll(func(a clustercache.Attachment) bool { return !slices.Contains(r.Containers, a.Container) })
		return nil
	}
	return fmt.Errorf("unknown verb %q", r.Verb)
}
