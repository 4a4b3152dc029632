package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// Signal sends a signal to a daemon of a machine, for instance SIGKILL to the
// kube-apiserver of the control plane.
func (c *Cluster) Signal(ctx context.Context, m *Machine, name string, sig syscall.Signal) error {
	d, err := c.state.daemon(m.Name, name)
	if err != nil {
		return err
	}
	return d.signal(ctx, m, sig)
}

// Restart starts a daemon that has ended again, as it was started first.
func (c *Cluster) Restart(ctx context.Context, m *Machine, name string) error {
	d, err := c.state.daemon(m.Name, name)
	if err != nil {
		return err
	}
	if d.running(m) {
		return fmt.Errorf("%s on %s still runs", name, m.Name)
	}
	if err := keepFilesHere(); err != nil {
		return err
	}
	again := &daemon{Name: d.Name, Args: d.Args}
	if err := again.start(ctx, m); err != nil {
		return err
	}
	return c.state.change(func() { d.Proc = again.Proc })
}

// WriteStatus writes a line for each machine and each daemon.
func (c *Cluster) WriteStatus(w io.Writer) {
	for _, m := range c.state.Machines {
		fmt.Fprintf(w, "%-18s pid %d\n", m.Name, m.Init.PID)
		for _, d := range m.Daemons {
			status := "running"
			if !d.running(m.Machine) {
				status = "ENDED"
			}
			fmt.Fprintf(w, "  %-25s %-8s %s\n", d.Name, status, m.logFile(d.Name))
		}
	}
}

// logTails are the last lines of the logs of the daemons that have ended.
func (c *Cluster) logTails() string {
	var text strings.Builder
	for _, m := range c.state.Machines {
		for _, d := range m.Daemons {
			if m.Init.alive() && !d.running(m.Machine) {
				fmt.Fprintf(&text, "\n--- %s on %s has ended; its log ends so:\n%s", d.Name, m.Name, m.logTail(d.Name, 20))
			}
		}
	}
	return text.String()
}

// Machine finds a machine, a node or the control plane, by name.
func (c *Cluster) Machine(name string) (*Machine, error) {
	var names []string
	for _, m := range c.state.Machines {
		if m.Name == name {
			return m.Machine, nil
		}
		names = append(names, m.Name)
	}
	return nil, fmt.Errorf("no machine %q; there are %s", name, strings.Join(names, ", "))
}

// WriteLogs writes the logs of a daemon, named alone or as machine/daemon.
func (c *Cluster) WriteLogs(w io.Writer, name string) error {
	machine, daemon, one := strings.Cut(name, "/")
	if !one {
		machine, daemon = "", name
	}
	found := false
	for _, m := range c.state.Machines {
		if one && m.Name != machine {
			continue
		}
		f, err := os.Open(m.logFile(daemon))
		if err != nil {
			continue
		}
		found = true
		fmt.Fprintf(w, "--- %s\n", f.Name())
		_, err = io.Copy(w, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("no log of %q", name)
	}
	return nil
}
