//go:build netns

package sctp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain runs the tests again in a network namespace of their own.
func TestMain(m *testing.M) {
	const inside = "SCTP_TEST_NAMESPACE"
	if os.Getenv(inside) != "" {
		os.Exit(run(m))
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tests in a network namespace:", err)
		os.Exit(1)
	}
}

func run(m *testing.M) int {
	for _, line := range []string{
		"ip link set lo up",
		"ip addr add 192.0.2.1/32 dev lo",
		"ip addr add 2001:db8::1/128 dev lo nodad",
		"iptables -A INPUT -p sctp --dport 9009 -j REJECT",
	} {
		words := strings.Fields(line)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v: %s\n", line, err, out)
			return 1
		}
	}
	return m.Run()
}

// listen serves as agnhost's porter does, on all addresses: it says its word
// without waiting for the client's.
func listen(t *testing.T, port int, word string) *SCTPListener {
	t.Helper()
	l, err := ListenSCTP("sctp", &SCTPAddr{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.AcceptSCTP()
			if err != nil {
				return
			}
			serving.Go(func() {
				if _, err := c.Write([]byte(word)); err != nil {
					t.Errorf("serve: %v", err)
				}
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		serving.Wait()
	})
	return l
}

// ask does what agnhost connect does.
func ask(address string) (string, error) {
	to, err := ResolveSCTPAddr("sctp", address)
	if err != nil {
		return "", err
	}
	c, err := DialSCTP("sctp", nil, to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := c.Write([]byte("hostname\n")); err != nil {
		return "", fmt.Errorf("write: %w", err)
	}
	b := make([]byte, 1024)
	n, err := c.Read(b)
	if err != nil {
		return "", fmt.Errorf("read: %w", err)
	}
	return string(b[:n]), nil
}

func TestServersOfOneNamespace(t *testing.T) {
	listen(t, 9003, "three")
	listen(t, 9005, "five")
	for _, host := range []string{"127.0.0.1", "192.0.2.1", "[::1]", "[2001:db8::1]"} {
		for port, want := range map[int]string{9003: "three", 9005: "five"} {
			address := fmt.Sprintf("%s:%d", host, port)
			if got, err := ask(address); got != want || err != nil {
				t.Errorf("%s: %q, error %v; want %q", address, got, err, want)
			}
		}
	}
}

func TestManyClients(t *testing.T) {
	l := listen(t, 9003, "three")
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			if got, err := ask("192.0.2.1:9003"); got != "three" || err != nil {
				t.Errorf("%q, error %v", got, err)
			}
		})
	}
	clients.Wait()
	left := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.conns)
	}
	for deadline := time.Now().Add(10 * time.Second); left() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d associations are left", left())
		}
	}
}

// A conversation as agnhost netexec has it: the server answers what it is asked.
func TestEcho(t *testing.T) {
	l, err := ListenSCTP("sctp", &SCTPAddr{Port: 9003})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to, err := ResolveSCTPAddr("sctp", "[2001:db8::1]:9003")
	if err != nil {
		t.Fatal(err)
	}
	client, err := DialSCTP("sctp", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.AcceptSCTP()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 { // more than wait at once
		word := fmt.Sprint("word ", i)
		if _, err := client.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, err := server.Read(b)
		if string(b[:n]) != word || err != nil {
			t.Fatalf("%q, error %v; want %q", b[:n], err, word)
		}
	}
	from, err := server.SCTPRemoteAddr(0)
	if want := client.LocalAddr().String(); err != nil || from.String() != want {
		t.Errorf("the server's client is %s, error %v; the client is %s", from, err, want)
	}
	client.Close()
	if n, err := server.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the client's end: %d bytes, error %v", n, err)
	}
}

// What is rejected fails, and does not wait until the client's patience ends.
func TestRejected(t *testing.T) {
	for address, want := range map[string]error{
		"192.0.2.1:9009": syscall.ECONNREFUSED, // by a rule of iptables
		"192.0.2.2:9003": syscall.ENETUNREACH,
	} {
		if got, err := ask(address); !errors.Is(err, want) {
			t.Errorf("%s: %q, error %v; want %v", address, got, err, want)
		}
	}
}

func TestServerThatCloses(t *testing.T) {
	l, err := ListenSCTP("sctp", &SCTPAddr{Port: 9003})
	if err != nil {
		t.Fatal(err)
	}
	to, err := ResolveSCTPAddr("sctp", "192.0.2.1:9003")
	if err != nil {
		t.Fatal(err)
	}
	client, err := DialSCTP("sctp", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("error %v; want %v", err, syscall.ECONNRESET)
	}
	if _, err := l.AcceptSCTP(); err == nil {
		t.Error("a closed listener accepts")
	}
}
