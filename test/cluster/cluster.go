package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ErrNotRunning says that there is no lab to attach to.
var ErrNotRunning = errors.New("the lab is not running")

// A Cluster is a running lab.
type Cluster struct {
	dir          string
	state        *state
	controlPlane *Machine
	nodes        []*Node
	config       *rest.Config
}

// bootTimeout and downTimeout are far above what a boot and a take-down need,
// so that a machine under load is not mistaken for a broken one.
const (
	bootTimeout = 3 * time.Minute
	downTimeout = time.Minute
)

// Up boots the lab and returns when its API answers, its nodes are ready and
// its DNS resolves. It builds components that are missing, and first takes
// down a lab that runs, or that crashed, in the same directory. It needs root.
//
// The lab outlives the calling process; end it with [Cluster.Down]. If Up
// fails it takes down what it started; the error contains the end of the logs.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab needs root, for namespaces and cgroups")
	}
	if err := keepFilesHere(); err != nil {
		return nil, err
	}
	if err := checkPackages(); err != nil {
		return nil, err
	}
	programs, err := build(ctx, o.Log, components)
	if err != nil {
		return nil, err
	}
	images, err := labImages(ctx, o.Log, programs)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(ctx, o.Dir); err != nil {
		return nil, fmt.Errorf("remove what an earlier lab left: %w", err)
	}
	return boot(ctx, o, programs, append(images, o.Images...))
}

// makeKubeconfig puts the administrator's kubeconfig where people look for it.
func (c *Cluster) makeKubeconfig(p pki) error {
	if err := os.Rename(p.kubeconfig("admin"), c.Kubeconfig()); err != nil {
		return err
	}
	return c.loadConfig()
}

func (c *Cluster) loadConfig() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("kubeconfig of the lab: %w", err)
	}
	config.QPS, config.Burst = -1, -1 // tests wait for the API server, not for themselves
	c.config = config
	return nil
}

// Attach finds the lab that runs in [DefaultDir]. The error is ErrNotRunning
// if there is none.
func Attach() (*Cluster, error) {
	return attach(DefaultDir())
}

func attach(dir string) (*Cluster, error) {
	s, err := readState(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotRunning
	} else if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, state: s}
	for _, m := range s.Machines {
		if !m.Init.alive() {
			return nil, fmt.Errorf("%w: machine %s has ended", ErrNotRunning, m.Name)
		}
		if m.Name == controlPlaneName {
			c.controlPlane = m.Machine
		}
	}
	for n := 1; n <= nodeCount; n++ {
		at := nodePlace(n)
		if m := s.machine(at.name); m != nil {
			c.nodes = append(c.nodes, newNode(m.Machine, at))
		}
	}
	if c.controlPlane == nil || len(c.nodes) != nodeCount {
		return nil, fmt.Errorf("%w: it did not finish its start", ErrNotRunning)
	}
	return c, c.loadConfig()
}

// Down ends the lab and removes everything that it put on the host. A lab
// that is down already is no error.
func (c *Cluster) Down(ctx context.Context) error {
	return Down(ctx, c.dir)
}

// Down ends the lab in dir, whole or in part, running or crashed, and removes
// everything that it put on the host. No lab is no error.
func Down(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	unlock, err := lock(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	return sweep(ctx, dir)
}

// sweep removes the lab in dir, if there is one. The caller has the lock.
func sweep(ctx context.Context, dir string) error {
	s, err := readState(dir)
	if errors.Is(err, os.ErrNotExist) {
		_ = os.Remove(dir) // an empty one, of a lab that crashed at once
		return nil
	} else if err != nil {
		return err
	}
	return s.erase(ctx)
}

// Kubeconfig is the path of a kubeconfig with all rights, for use on the host.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.dir, "kubeconfig") }

// RESTConfig is a client configuration with all rights and without rate
// limits. Each call returns a copy.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Nodes are the worker nodes.
func (c *Cluster) Nodes() []*Node { return slices.Clone(c.nodes) }

// ControlPlane is where etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler run. It can reach pods, not Services.
func (c *Cluster) ControlPlane() *Machine { return c.controlPlane }

// ProxyMode is the mode in which kube-proxy runs.
func (c *Cluster) ProxyMode() string { return c.state.ProxyMode }

// LoadImages imports image archives into every node.
func (c *Cluster) LoadImages(ctx context.Context, archives ...string) error {
	work, ctx := errgroup.WithContext(ctx)
	for _, node := range c.nodes {
		work.Go(func() error { return node.importImages(ctx, archives) })
	}
	return work.Wait()
}
