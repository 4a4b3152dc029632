package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// state is what is written down about a running lab, so that a later process
// can use it and take it down.
type state struct {
	ProxyMode string       `json:"proxyMode"`
	IPTables  string       `json:"iptables"`
	Binaries  binaries     `json:"binaries"`
	Made      []string     `json:"made"` // directories on the host that were not there before
	Machines  []*machineOf `json:"machines"`

	dir string
	mu  sync.Mutex
}

// machineOf is a machine with its daemons.
type machineOf struct {
	*Machine
	Daemons []*daemon `json:"daemons"`
}

func stateFile(dir string) string { return filepath.Join(dir, "state.json") }

// readState reads the state of the lab in dir. The error is os.ErrNotExist if
// there is none.
func readState(dir string) (*state, error) {
	text, err := os.ReadFile(stateFile(dir))
	if err != nil {
		return nil, err
	}
	s := &state{dir: dir}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("state of the lab: %s: %w", stateFile(dir), err)
	}
	return s, nil
}

// change changes the state under its lock and writes it down.
func (s *state) change(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	temp := stateFile(s.dir) + ".new"
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, stateFile(s.dir))
}

// addMachine records a machine.
func (s *state) addMachine(m *Machine) error {
	return s.change(func() { s.Machines = append(s.Machines, &machineOf{Machine: m}) })
}

// addDaemon records a daemon of m.
func (s *state) addDaemon(m *Machine, d *daemon) error {
	return s.change(func() {
		of := s.machine(m.Name)
		of.Daemons = append(of.Daemons, d)
	})
}

// machine finds a machine by name; nil if there is none.
func (s *state) machine(name string) *machineOf {
	for _, m := range s.Machines {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// daemon finds a daemon of a machine by their names.
func (s *state) daemon(machine, name string) (*daemon, error) {
	if m := s.machine(machine); m != nil {
		for _, d := range m.Daemons {
			if d.Name == name {
				return d, nil
			}
		}
	}
	return nil, fmt.Errorf("%s has no daemon %q", machine, name)
}

// ended is an error if a daemon that was started does not run any more.
func (s *state) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.Machines {
		for _, d := range m.Daemons {
			if !d.running(m.Machine) {
				return fmt.Errorf("%s on %s has ended", d.Name, m.Name)
			}
		}
	}
	return nil
}

// makeMountpoints makes the directories that machines bind their own over,
// and records those that were not there.
func (s *state) makeMountpoints() error {
	for _, path := range bindPaths {
		var missing []string
		for p := path; ; p = filepath.Dir(p) {
			if _, err := os.Stat(p); err == nil {
				break
			} else if !errors.Is(err, os.ErrNotExist) {
				return err
			}
			missing = append(missing, p)
		}
		slices.Reverse(missing)
		if err := s.change(func() { s.Made = append(s.Made, missing...) }); err != nil {
			return err
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// erase ends the machines and removes all that the lab left on the host.
func (s *state) erase(ctx context.Context) error {
	for _, m := range s.Machines {
		if err := m.Init.kill(ctx); err != nil {
			return fmt.Errorf("machine %s: %w", m.Name, err)
		}
	}
	if err := removeHostLink(ctx); err != nil {
		return err
	}
	for _, m := range s.Machines {
		if err := removeCgroups(ctx, m.Name); err != nil {
			return err
		}
	}
	for _, path := range slices.Backward(s.Made) {
		_ = os.Remove(path) // stays if someone has put something in it since
	}
	return os.RemoveAll(s.dir)
}

// lock keeps a second process from changing the lab in dir. The lock is an
// abstract socket: it leaves no file, and it ends with its owner.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	name := "@tierwall-lab:" + strings.ReplaceAll(dir, "/", ":")
	for {
		l, err := (&net.ListenConfig{}).Listen(ctx, "unix", name)
		if err == nil {
			return func() { l.Close() }, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process is changing the lab in %s: %w", dir, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
