package chart

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Where things are, seen from this package.
const (
	repository = "../.."
	chartDir   = "../../charts/tierwall"
	helmModule = "../cluster/components/helm"
)

const (
	release    = "tierwall"
	namespace  = "tierwall-system"
	kubernetes = "1.35.4"
)

// programs is where TestMain puts what it builds.
var programs string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "chart-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir
	if err := build(helmModule, "helm", "helm.sh/helm/v3/cmd/helm"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build compiles a program of a module; with a warm build cache that takes seconds.
func build(module, name, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w",
		"-o", filepath.Join(programs, name), pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return nil
}

// helm runs Helm, away from every cluster and configuration of this machine.
func helm(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "helm"), args...)
	home := t.TempDir()
	cmd.Env = []string{"HOME=" + home, "KUBECONFIG=" + filepath.Join(home, "none"), "PATH=" + os.Getenv("PATH")}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w\n%s", strings.Join(args, " "), err, errOut.String())
	}
	return out.String(), nil
}

// template renders the chart, hooks included, with more arguments of "helm template".
func template(t *testing.T, args ...string) string {
	t.Helper()
	return templateOf(t, chartDir, args...)
}

func templateOf(t *testing.T, chart string, args ...string) string {
	t.Helper()
	all := append([]string{"template", release, chart, "--namespace", namespace, "--kube-version", kubernetes}, args...)
	out, err := helm(t, all...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
