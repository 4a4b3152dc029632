package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/tierwall/tierwall/images"
	"github.com/tierwall/tierwall/test/cluster"
)

// imageTag is the tag of the images that are packed and installed.
const imageTag = "conformance"

// A run says which tests to run, and on what.
type run struct {
	chart, out, focus, skip string
	procs                   int
}

// mode runs the tests on a lab of its own, with kube-proxy in this mode.
func (r run) mode(ctx context.Context, mode string) (_ result, err error) {
	options := cluster.Options{ProxyMode: mode, Log: os.Stderr}
	if r.chart != "" {
		if options.Images, err = images.Tierwall(ctx, os.Stderr, imageTag); err != nil {
			return result{}, err
		}
	}
	lab, err := cluster.Up(ctx, options)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx))) }()
	if r.chart != "" {
		if err := r.install(ctx, lab); err != nil {
			return result{}, err
		}
	}
	return r.test(ctx, lab, filepath.Join(r.out, mode))
}

// install installs tierwall so that pods without policies reach each other, and
// that no guardrail refuses a policy, as the tests of stock Kubernetes expect.
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

// test runs the tests, and writes their output and report to dir.
func (r run) test(ctx context.Context, lab *cluster.Cluster, dir string) (result, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return result{}, err
	}
	cmd, err := r.ginkgo(ctx, lab, dir)
	if err != nil {
		return result{}, err
	}
	log, err := os.Create(filepath.Join(dir, "e2e.log"))
	if err != nil {
		return result{}, err
	}
	defer log.Close()
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return result{}, err
	}
	cmd.Stderr = log
	fmt.Printf("running the e2e tests with focus %q, skip %q; output in %s\n", r.focus, r.skip, log.Name())
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	found := follow(io.TeeReader(pipe, log), os.Stdout, time.Now)
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		found.broken = found.failed == 0 // it failed, and not because of a test
		return found, nil
	}
	return found, err
}

// ginkgo is the command that runs the tests. A signal ends it with its
// children.
func (r run) ginkgo(ctx context.Context, lab *cluster.Cluster, dir string) (*exec.Cmd, error) {
	programs := map[string]string{"ginkgo": "", "e2e.test": "", "kubectl": ""}
	for name := range programs {
		path, err := cluster.Program(name)
		if err != nil {
			return nil, err
		}
		programs[name] = path
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, programs["ginkgo"], "run", "-v", "--no-color", "--timeout=2h",
		"--procs="+strconv.Itoa(r.procs), "--focus="+r.focus, "--skip="+r.skip,
		"--output-dir="+dir, "--junit-report=junit.xml",
		programs["e2e.test"], "--",
		"--provider=skeleton", "--kubeconfig="+lab.Kubeconfig(), "--kubectl-path="+programs["kubectl"])
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	return cmd, nil
}
