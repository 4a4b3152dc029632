package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const coreDNSImage = "docker.io/tierwall-lab/coredns:1.15.0"

//go:embed coredns.yaml
var coreDNSManifest string

// deployCoreDNS creates the cluster's name service.
func (c *Cluster) deployCoreDNS(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.state.Binaries["kubectl"], "--kubeconfig", c.Kubeconfig(),
		"create", "--validate=false", "-f", "-")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(coreDNSManifest, "COREDNS_IMAGE", coreDNSImage))
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("deploy CoreDNS: %w", err)
	}
	return nil
}

// waitDNS waits until every node gets an answer from the cluster's name
// service at its Service address.
func (c *Cluster) waitDNS(ctx context.Context) error {
	for _, node := range c.nodes {
		err := c.poll(ctx, "DNS on "+node.Name, func() error {
			// One attempt is short, so that a lost packet does not cost seconds.
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_, err := node.Exec(ctx, "busybox", "nslookup", "-type=a",
				"kubernetes.default.svc."+clusterDomain, dnsService4)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
