package cluster

import (
	"fmt"
	"path/filepath"
)

// etcdDaemon keeps its data without fsync: a lab does not outlive its machine.
func etcdDaemon(programs binaries, dir string) *daemon {
	return &daemon{Name: "etcd", Args: []string{
		programs["etcd"],
		"--name=lab",
		"--data-dir=" + filepath.Join(dir, "etcd"),
		"--unsafe-no-fsync",
		"--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=lab=http://127.0.0.1:2380",
		"--log-level=warn",
	}}
}

// apiServerDaemon reaches webhooks and aggregated API servers at the addresses
// of their pods, as there is no kube-proxy beside it.
func apiServerDaemon(programs binaries, p pki) *daemon {
	return &daemon{Name: "kube-apiserver", Args: []string{
		programs["kube-apiserver"],
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address=" + controlPlanePlace().ip4.String(),
		fmt.Sprintf("--secure-port=%d", apiPort),
		"--service-cluster-ip-range=" + serviceCIDRs,
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--enable-aggregator-routing=true",
		"--tls-cert-file=" + p.crt("apiserver"),
		"--tls-private-key-file=" + p.key("apiserver"),
		"--client-ca-file=" + p.crt("ca"),
		"--kubelet-certificate-authority=" + p.crt("ca"),
		"--kubelet-client-certificate=" + p.crt("kubelet-client"),
		"--kubelet-client-key=" + p.key("kubelet-client"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
		"--service-account-key-file=" + p.crt("service-account"),
		"--service-account-signing-key-file=" + p.key("service-account"),
		"--requestheader-client-ca-file=" + p.crt("front-proxy-ca"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + p.crt("front-proxy-client"),
		"--proxy-client-key-file=" + p.key("front-proxy-client"),
	}}
}

// controllerManagerDaemon allocates no pod CIDRs: the lab sets them itself,
// so that the nodes' CNI configuration can be written beforehand.
func controllerManagerDaemon(programs binaries, p pki, dir string) *daemon {
	return &daemon{Name: "kube-controller-manager", Args: []string{
		programs["kube-controller-manager"],
		"--kubeconfig=" + p.kubeconfig("controller-manager"),
		"--authentication-kubeconfig=" + p.kubeconfig("controller-manager"),
		"--authorization-kubeconfig=" + p.kubeconfig("controller-manager"),
		"--client-ca-file=" + p.crt("ca"),
		"--root-ca-file=" + p.crt("ca"),
		"--cluster-signing-cert-file=" + p.crt("ca"),
		"--cluster-signing-key-file=" + p.key("ca"),
		"--service-account-private-key-file=" + p.key("service-account"),
		"--use-service-account-credentials=true",
		"--allocate-node-cidrs=false",
		"--kube-api-qps=500",
		"--kube-api-burst=500",
		"--flex-volume-plugin-dir=" + filepath.Join(dir, "volume-plugins"),
		"--leader-elect=false",
	}}
}

func schedulerDaemon(programs binaries, p pki) *daemon {
	return &daemon{Name: "kube-scheduler", Args: []string{
		programs["kube-scheduler"],
		"--kubeconfig=" + p.kubeconfig("scheduler"),
		"--authentication-kubeconfig=" + p.kubeconfig("scheduler"),
		"--authorization-kubeconfig=" + p.kubeconfig("scheduler"),
		"--client-ca-file=" + p.crt("ca"),
		"--leader-elect=false",
	}}
}
