package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/tierwall/tierwall/images"
)

// kubernetesVersion is the version that components/kubernetes/go.mod pins,
// and that the binaries say they are.
const kubernetesVersion = "v1.35.4"

// A component is a group of programs that are built together from the module
// in components/<Module>.
type component struct {
	Name     string
	Module   string
	Version  string
	Packages map[string]string // program name: package
	Test     bool              // built with go test -c
}

// components are what a lab needs, in the order in which they are built.
var components = []component{
	{Name: "etcd", Module: "etcd", Version: "v3.6.16", Packages: map[string]string{
		"etcd": "go.etcd.io/etcd/server/v3",
	}},
	{Name: "kube-control-plane", Module: "kubernetes", Version: kubernetesVersion, Packages: map[string]string{
		"kube-apiserver":          "k8s.io/kubernetes/cmd/kube-apiserver",
		"kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
		"kube-scheduler":          "k8s.io/kubernetes/cmd/kube-scheduler",
	}},
	{Name: "kube-node", Module: "kubernetes", Version: kubernetesVersion, Packages: map[string]string{
		"kubelet":    "k8s.io/kubernetes/cmd/kubelet",
		"kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
	}},
	{Name: "kube-tools", Module: "kubernetes", Version: kubernetesVersion, Packages: map[string]string{
		"kubectl": "k8s.io/kubernetes/cmd/kubectl",
	}},
	{Name: "agnhost", Module: "agnhost", Version: kubernetesVersion, Packages: map[string]string{
		"agnhost": "k8s.io/kubernetes/test/images/agnhost",
	}},
	{Name: "coredns", Module: "coredns", Version: "v1.15.0", Packages: map[string]string{
		"coredns": "github.com/coredns/coredns",
	}},
	{Name: "helm", Module: "helm", Version: "v3.22.0", Packages: map[string]string{
		"helm": "helm.sh/helm/v3/cmd/helm",
	}},
}

// conformanceComponents are what the upstream tests need besides.
var conformanceComponents = []component{
	{Name: "kube-e2e", Module: "kubernetes", Version: kubernetesVersion, Test: true, Packages: map[string]string{
		"e2e.test": "k8s.io/kubernetes/test/e2e",
	}},
	{Name: "ginkgo", Module: "kubernetes", Version: kubernetesVersion, Packages: map[string]string{
		"ginkgo": "github.com/onsi/ginkgo/v2/ginkgo",
	}},
	{Name: "cnp-conformance", Module: "network-policy-api", Version: "v0.2.0", Test: true, Packages: map[string]string{
		"cnp-conformance.test": "sigs.k8s.io/network-policy-api/conformance",
	}},
}

// flags are the build flags, the same for all programs of a component.
func (c component) flags() []string {
	ld := "-s -w"
	if c.Module == "kubernetes" {
		version := strings.SplitN(strings.TrimPrefix(c.Version, "v"), ".", 3)
		const pkg = "k8s.io/component-base/version"
		ld += fmt.Sprintf(" -X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s",
			pkg, c.Version, pkg, version[0], pkg, version[1])
	}
	return []string{"-trimpath", "-buildvcs=false", "-ldflags", ld}
}

// dir is where the component's programs are kept: outside the repository, and
// under a name that changes with everything that goes into them.
func (c component) dir(source string) (string, error) {
	cache, err := images.CacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	if err := hashSource(sum, source); err != nil {
		return "", fmt.Errorf("component %s: %w", c.Name, err)
	}
	fmt.Fprintln(sum, c.flags(), c.Packages, c.Test, runtime.GOARCH)
	toolchain, err := goEnv()
	if err != nil {
		return "", err
	}
	fmt.Fprintln(sum, toolchain.version)
	key := hex.EncodeToString(sum.Sum(nil))[:12]
	return filepath.Join(cache, fmt.Sprintf("%s-%s-%s", c.Name, c.Version, key)), nil
}

// hashSource hashes what is below a directory, but tests: go.mod, go.sum, and
// perhaps modules that take the place of others.
func hashSource(sum io.Writer, dir string) error {
	return filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "testdata" {
			return fs.SkipDir
		}
		if entry.IsDir() || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		_, err = sum.Write(text)
		return err
	})
}

// toolchain is what the go command says about itself and where it is.
type toolchain struct{ version, module string }

// goEnv asks the go command, once.
var goEnv = sync.OnceValues(func() (toolchain, error) {
	out, err := exec.Command("go", "env", "GOVERSION", "GOMOD").Output()
	if err != nil {
		return toolchain{}, fmt.Errorf("go env: %w", err)
	}
	version, module, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return toolchain{version, module}, nil
})

// repositoryRoot is the directory of the module that the caller works in.
func repositoryRoot() (string, error) {
	toolchain, err := goEnv()
	if err != nil {
		return "", err
	}
	if toolchain.module == "" || toolchain.module == os.DevNull {
		return "", errors.New("not inside the tierwall repository: no go.mod here")
	}
	return filepath.Dir(toolchain.module), nil
}
