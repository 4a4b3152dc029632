package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// A Node is a worker node of the lab.
type Node struct {
	*Machine
	IPv4, IPv6         netip.Addr   // InternalIPs
	PodCIDR4, PodCIDR6 netip.Prefix // where its pods' addresses come from
}

func newNode(m *Machine, at place) *Node {
	return &Node{Machine: m, IPv4: at.ip4, IPv6: at.ip6, PodCIDR4: at.pod4, PodCIDR6: at.pod6}
}

// ImportImage imports an image archive (docker or OCI) into the node's
// containerd, so that pods with imagePullPolicy IfNotPresent can use it.
func (n *Node) ImportImage(ctx context.Context, archive string) error {
	return importImage(ctx, n.Machine, archive)
}

func (n *Node) importImages(ctx context.Context, archives []string) error {
	for _, archive := range archives {
		if err := n.ImportImage(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

// writeNodeFiles writes the configuration of the node's daemons.
func writeNodeFiles(m *Machine, at place, p pki, proxyMode string) error {
	files := map[string]string{
		"containerd.toml":                    containerdConfig,
		"root/etc/cni/net.d/10-lab.conflist": cniConfig(at),
		"kubelet.yaml":                       kubeletConfig(at, m.Dir, p),
		"kube-proxy.yaml":                    kubeProxyConfig(proxyMode, p),
		"resolv.conf":                        "", // there is no name server beyond the cluster's
	}
	for name, text := range files {
		path := filepath.Join(m.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return linkPlugins(filepath.Join(m.Dir, "root/opt/cni/bin"))
}

// registerNode creates the Node object, with its pod CIDRs, before kubelet
// would create it without.
func registerNode(ctx context.Context, client kubernetes.Interface, at place) error {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: at.name, Labels: map[string]string{corev1.LabelHostname: at.name}},
		Spec: corev1.NodeSpec{
			PodCIDR:  at.pod4.String(),
			PodCIDRs: []string{at.pod4.String(), at.pod6.String()},
		},
	}
	_, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create node %s: %w", at.name, err)
	}
	return nil
}
