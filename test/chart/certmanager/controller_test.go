//go:build cluster

package certmanager

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tierwall/tierwall/images"
)

// component is the module that pins cert-manager.
const component = "component"

const (
	module  = "github.com/cert-manager/cert-manager"
	version = "v1.11.5"
)

// controllerProgram builds cert-manager's controller, once, and keeps it with the
// other programs that the tests build.
func controllerProgram(t *testing.T) string {
	t.Helper()
	cache, err := images.CacheDir()
	must(t, err)
	sums, err := os.ReadFile(filepath.Join(component, "go.sum"))
	must(t, err)
	sum := sha256.Sum256(sums)
	program := filepath.Join(cache, "cert-manager-"+version+"-"+hex.EncodeToString(sum[:6]), "controller")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	start := time.Now()
	t.Logf("building cert-manager's controller %s (minutes, once)", version)
	must(t, os.MkdirAll(filepath.Dir(program), 0o755))
	unfinished := program + ".unfinished"
	must(t, images.Go(t.Context(), component, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w",
		"-o", unfinished, module+"/cmd/controller"))
	must(t, os.Rename(unfinished, program))
	t.Logf("built in %d s", int(time.Since(start).Seconds()))
	return program
}

// definitions are cert-manager's CustomResourceDefinitions. Their labels are
// for Helm to fill in; without them they are as they are.
func definitions(t *testing.T) string {
	t.Helper()
	dir, err := images.ModuleDir(t.Context(), component, module)
	must(t, err)
	files, err := filepath.Glob(filepath.Join(dir, "deploy/crds/crd-*.yaml"))
	must(t, err)
	if len(files) == 0 {
		t.Fatalf("no CustomResourceDefinitions in %s", dir)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		all.WriteString("---\n")
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "{{") {
				all.WriteString(line)
			}
		}
	}
	return all.String()
}

// startController runs cert-manager's controller until the test ends.
func startController(t *testing.T, kubeconfig string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, controllerProgram(t),
		"--kubeconfig="+kubeconfig, "--leader-elect=false", "--metrics-listen-address=127.0.0.1:0")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	must(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("cert-manager says:\n%s", log.String())
		}
	})
}
