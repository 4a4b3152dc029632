package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tierwall/tierwall/images"
	"github.com/tierwall/tierwall/test/cluster"
)

// imageTag is the tag of the images that are packed and installed.
const imageTag = "conformance"

// A run says which tests to run, and on what.
type run struct {
	chart, out string
	suites     []named
}

// A suite is a program that tests a cluster.
type suite interface {
	// command is how to run it. Its files go to dir, an absolute path.
	command(ctx context.Context, lab *cluster.Cluster, dir string) (*exec.Cmd, error)
	// follow reads its output up to the end, and writes a line for each test that is done.
	follow(output io.Reader, w io.Writer, dir string) result
}

type named struct {
	name string
	suite
}

// mode runs the suites on a lab of its own, with kube-proxy in this mode, and
// reports whether all passed.
func (r run) mode(ctx context.Context, mode string) (_ bool, err error) {
	options := cluster.Options{ProxyMode: mode, Log: os.Stderr}
	if options.Images, err = r.images(ctx); err != nil {
		return false, err
	}
	lab, err := cluster.Up(ctx, options)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx))) }()
	if r.chart != "" {
		if err := r.install(ctx, lab); err != nil {
			return false, err
		}
	}
	passed := true
	for _, s := range r.suites {
		found, err := r.test(ctx, lab, s, filepath.Join(r.out, mode, s.name))
		if err != nil {
			return false, fmt.Errorf("suite %s: %w", s.name, err)
		}
		fmt.Printf("%s, kube-proxy %s: %s\n", s.name, mode, found)
		passed = passed && found.ok()
	}
	return passed, nil
}

// images packs what the lab needs besides its own images.
func (r run) images(ctx context.Context) ([]string, error) {
	agnhost, err := cluster.AgnhostArchive(ctx, os.Stderr, cnpAgnhost)
	if err != nil || r.chart == "" {
		return []string{agnhost}, err
	}
	tierwall, err := images.Tierwall(ctx, os.Stderr, imageTag)
	return append(tierwall, agnhost), err
}

// install installs tierwall so that pods without policies reach each other, and
// that no guardrail refuses a policy, as tests of stock Kubernetes expect.
func (r run) install(ctx context.Context, lab *cluster.Cluster) error {
	helm, err := cluster.Program("helm")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, helm, "--kubeconfig", lab.Kubeconfig(),
		"install", "tierwall", r.chart, "--namespace", "tierwall-system", "--create-namespace",
		"--set", "defaultAction=Allow", "--set", "guardrails=null",
		"--set", "webhook.image.tag="+imageTag, "--set", "enforcer.image.tag="+imageTag,
		"--wait", "--timeout", "3m")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("helm install: %w\n%s", err, out)
	}
	return nil
}

// test runs a suite, and keeps its output and reports in dir.
func (r run) test(ctx context.Context, lab *cluster.Cluster, s named, dir string) (result, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return result{}, err
	}
	if err := os.RemoveAll(dir); err != nil { // an old report is not this run's
		return result{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return result{}, err
	}
	cmd, err := s.command(ctx, lab, dir)
	if err != nil {
		return result{}, err
	}
	log, err := os.Create(filepath.Join(dir, "output.log"))
	if err != nil {
		return result{}, err
	}
	defer log.Close()
	group(cmd).Stderr = log
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return result{}, err
	}
	fmt.Printf("running suite %s; output in %s\n", s.name, log.Name())
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	found := s.follow(io.TeeReader(pipe, log), os.Stdout, dir)
	found.took = time.Since(start)
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		found.broken = found.broken || found.failed == 0 // it failed, and not because of a test
		return found, nil
	}
	return found, err
}

// group makes a command the head of a process group, so that a signal ends it
// with its children.
func group(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}
