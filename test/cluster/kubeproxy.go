package cluster

import (
	"fmt"
	"path/filepath"
)

// kubeProxyConfig is a KubeProxyConfiguration
// (kubeproxy.config.k8s.io/v1alpha1). Connection tracking is tuned for the
// whole machine or not at all, so it is left alone.
func kubeProxyConfig(mode string, p pki) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %q
clientConnection: {kubeconfig: %q}
clusterCIDR: %q
detectLocalMode: ClusterCIDR
iptables: {localhostNodePorts: false}
conntrack:
  maxPerCore: 0
  min: 0
  tcpEstablishedTimeout: 0s
  tcpCloseWaitTimeout: 0s
`, mode, p.kubeconfig("proxy"), podCIDRs)
}

func kubeProxyDaemon(programs binaries, dir string) *daemon {
	return &daemon{Name: "kube-proxy", Args: []string{
		programs["kube-proxy"],
		"--config=" + filepath.Join(dir, "kube-proxy.yaml"),
	}}
}
