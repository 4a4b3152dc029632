package cluster

import (
	"fmt"
	"path/filepath"
)

// kubeletConfig is a KubeletConfiguration (kubelet.config.k8s.io/v1beta1).
// Besides the usual, it keeps within a machine that has cgroup v1, a limit on
// open files and no CAP_SYS_RESOURCE, and it never evicts: the disk is the
// host's.
func kubeletConfig(at place, dir string, p pki) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %q}
authorization: {mode: Webhook}
tlsCertFile: %q
tlsPrivateKeyFile: %q
clusterDNS: [%q]
clusterDomain: %q
resolvConf: %q
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: %q
failCgroupV1: false
maxOpenFiles: 20000
oomScoreAdj: 0
failSwapOn: false
volumePluginDir: /var/lib/kubelet/volume-plugins
imageGCHighThresholdPercent: 100
evictionHard:
  memory.available: "10Mi"
  nodefs.available: "0%%"
  nodefs.inodesFree: "0%%"
  imagefs.available: "0%%"
`, p.crt("ca"), p.crt(at.name), p.key(at.name), dnsService4, clusterDomain,
		filepath.Join(dir, "resolv.conf"), "/"+at.name)
}

func kubeletDaemon(programs binaries, at place, dir string, p pki) *daemon {
	return &daemon{Name: "kubelet", Args: []string{
		programs["kubelet"],
		"--config=" + filepath.Join(dir, "kubelet.yaml"),
		"--kubeconfig=" + p.kubeconfig(at.name),
		"--node-ip=" + at.ip4.String() + "," + at.ip6.String(),
	}}
}
