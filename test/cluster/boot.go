package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
)

// boot starts everything, and on failure ends it.
func boot(ctx context.Context, o Options, programs binaries, images []string) (*Cluster, error) {
	if err := makeEmptyDir(o.Dir); err != nil {
		return nil, err
	}
	s := &state{dir: o.Dir, ProxyMode: o.ProxyMode, IPTables: o.IPTables, Binaries: programs}
	c := &Cluster{dir: o.Dir, state: s}
	booting, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	steps := newSteps(o.Log)
	if err := c.boot(booting, steps, images); err != nil {
		err = fmt.Errorf("boot the lab: %w%s", err, c.logTails())
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTimeout)
		defer cancel()
		return nil, errors.Join(err, s.erase(ending))
	}
	return c, nil
}

func (c *Cluster) boot(ctx context.Context, steps *steps, images []string) error {
	s := c.state
	if err := s.makeMountpoints(); err != nil {
		return err
	}
	p, err := makePKI(filepath.Join(c.dir, "pki"))
	if err != nil {
		return err
	}
	if err := c.makeKubeconfig(p); err != nil {
		return err
	}
	if err := c.startMachines(ctx); err != nil {
		return err
	}
	steps.say("control plane and %d nodes have their namespaces", nodeCount)

	work, ctx := errgroup.WithContext(ctx)
	api := make(chan struct{}) // closed when the API server is ready
	work.Go(func() error {
		if err := c.startControlPlane(ctx, p); err != nil {
			return err
		}
		steps.say("API server is ready")
		close(api)
		return c.deployCoreDNS(ctx)
	})
	for i, node := range c.nodes {
		work.Go(func() error { return c.startNode(ctx, node, nodePlace(i+1), p, images, api) })
	}
	work.Go(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-api:
			return c.waitReady(ctx, steps)
		}
	})
	return work.Wait()
}

// startMachines starts the namespaces and joins their networks.
func (c *Cluster) startMachines(ctx context.Context) error {
	places := []place{controlPlanePlace()}
	for n := 1; n <= nodeCount; n++ {
		places = append(places, nodePlace(n))
	}
	machines := make([]*Machine, len(places))
	var starting errgroup.Group
	for i, at := range places {
		starting.Go(func() (err error) {
			dir := filepath.Join(c.dir, at.name)
			machines[i], err = startMachine(ctx, at.name, dir, c.state.IPTables, c.state.addMachine)
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		return err
	}
	c.controlPlane = machines[0]
	if err := connectHost(ctx, c.controlPlane); err != nil {
		return err
	}
	if err := makeBridge(ctx, c.controlPlane); err != nil {
		return err
	}
	for i, m := range machines[1:] {
		if err := connectNode(ctx, c.controlPlane, m, places[i+1]); err != nil {
			return err
		}
		c.nodes = append(c.nodes, newNode(m, places[i+1]))
	}
	return nil
}

// start starts a daemon and records it.
func (c *Cluster) start(ctx context.Context, m *Machine, d *daemon) error {
	if err := d.start(ctx, m); err != nil {
		return err
	}
	return c.state.addDaemon(m, d)
}

// startControlPlane returns when the API server is ready; the others start in
// the meantime.
func (c *Cluster) startControlPlane(ctx context.Context, p pki) error {
	programs := c.state.Binaries
	for _, d := range []*daemon{
		etcdDaemon(programs, c.controlPlane.Dir),
		apiServerDaemon(programs, p),
	} {
		if err := c.start(ctx, c.controlPlane, d); err != nil {
			return err
		}
	}
	if err := c.waitAPI(ctx); err != nil {
		return err
	}
	for _, d := range []*daemon{
		controllerManagerDaemon(programs, p, c.controlPlane.Dir),
		schedulerDaemon(programs, p),
	} {
		if err := c.start(ctx, c.controlPlane, d); err != nil {
			return err
		}
	}
	return nil
}

// startNode starts a node's daemons, and imports images while the API server
// starts.
func (c *Cluster) startNode(ctx context.Context, n *Node, at place, p pki, images []string, api <-chan struct{}) error {
	if err := makeCgroups(at.name); err != nil {
		return err
	}
	if err := writeNodeFiles(n.Machine, at, p, c.state.ProxyMode); err != nil {
		return err
	}
	if err := c.start(ctx, n.Machine, containerdDaemon(n.Dir)); err != nil {
		return err
	}
	if err := waitContainerd(ctx, n.Machine); err != nil {
		return err
	}
	// What the first pods need comes first; the rest while they start.
	first := min(len(images), bootImages)
	if err := n.importImages(ctx, images[:first]); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-api:
	}
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return err
	}
	if err := registerNode(ctx, client, at); err != nil {
		return err
	}
	for _, d := range []*daemon{
		kubeletDaemon(c.state.Binaries, at, n.Dir, p),
		kubeProxyDaemon(c.state.Binaries, n.Dir),
	} {
		if err := c.start(ctx, n.Machine, d); err != nil {
			return err
		}
	}
	return n.importImages(ctx, images[first:])
}

// makeEmptyDir makes the state directory, which is removed as a whole when the
// lab ends: it must not have anything else in it.
func makeEmptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s has files in it that are not a lab's: choose another directory, or empty it", dir)
	}
	return err
}
