package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// poll calls check until it returns nil. On timeout the error says what was
// being waited for and why it was not so.
func poll(ctx context.Context, what string, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, errors.Join(ctx.Err(), err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// waitAPI waits until the API server says that it is ready.
func (c *Cluster) waitAPI(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return err
	}
	return c.poll(ctx, "the API server", func() error {
		report, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").DoRaw(ctx)
		if failed := failedChecks(string(report)); err != nil && len(failed) > 0 {
			return errors.New(strings.Join(failed, ", "))
		}
		return err
	})
}

// failedChecks are the lines of a report of /readyz that say what is not
// ready.
func failedChecks(report string) []string {
	var failed []string
	for line := range strings.Lines(report) {
		if check, ok := strings.CutPrefix(strings.TrimSpace(line), "[-]"); ok {
			failed = append(failed, check)
		}
	}
	return failed
}

// poll is the function poll, for a condition that cannot come true any more
// when one of the lab's daemons has ended.
func (c *Cluster) poll(ctx context.Context, what string, check func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return poll(ctx, what, func() error {
		if err := c.state.ended(); err != nil {
			cancel(err)
			return err
		}
		return check()
	})
}

// waitReady waits until nodes and name service work.
func (c *Cluster) waitReady(ctx context.Context, steps *steps) error {
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return err
	}
	for _, node := range c.nodes {
		if err := c.poll(ctx, node.Name, func() error { return nodeReady(ctx, client, node.Name) }); err != nil {
			return err
		}
	}
	steps.say("nodes are ready")
	err = c.poll(ctx, "CoreDNS", func() error {
		deployment, err := client.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		if err == nil && deployment.Status.ReadyReplicas == 0 {
			err = errors.New("it has no ready replica")
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.waitDNS(ctx); err != nil {
		return err
	}
	steps.say("CoreDNS resolves on every node")
	return nil
}

func nodeReady(ctx context.Context, client kubernetes.Interface, name string) error {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return errors.New(condition.Message)
		}
	}
	return errors.New("it has not reported yet")
}
