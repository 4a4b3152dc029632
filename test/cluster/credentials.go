package cluster

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// pki names the files of the lab's keys and certificates.
type pki string

func (p pki) crt(name string) string        { return filepath.Join(string(p), name+".crt") }
func (p pki) key(name string) string        { return filepath.Join(string(p), name+".key") }
func (p pki) kubeconfig(name string) string { return filepath.Join(string(p), name+".kubeconfig") }

// users are the clients of the API server that get a kubeconfig.
// See https://kubernetes.io/docs/setup/best-practices/certificates/.
func users() []identity {
	all := []identity{
		{file: "admin", name: "lab-admin", organization: "system:masters"},
		{file: "controller-manager", name: "system:kube-controller-manager"},
		{file: "scheduler", name: "system:kube-scheduler"},
		{file: "proxy", name: "system:kube-proxy"},
	}
	for n := 1; n <= nodeCount; n++ {
		at := nodePlace(n)
		all = append(all, identity{
			file: at.name, name: "system:node:" + at.name, organization: "system:nodes",
			dns: []string{at.name}, ips: []netip.Addr{at.ip4, at.ip6},
		})
	}
	return all
}

// makePKI makes all keys, certificates and kubeconfigs of a lab in dir.
func makePKI(dir string) (pki, error) {
	p := pki(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return p, err
	}
	if err := makeFrontProxy(dir); err != nil {
		return p, err
	}
	if err := makeServiceAccountKey(p); err != nil {
		return p, err
	}
	ca, err := newAuthority(dir, "ca")
	if err != nil {
		return p, err
	}
	servers := []identity{apiServerIdentity(), {file: "kubelet-client", name: "kube-apiserver", organization: "system:masters"}}
	for _, id := range append(servers, users()...) {
		if err := ca.issue(id); err != nil {
			return p, err
		}
	}
	for _, id := range users() {
		if err := p.writeKubeconfig(id.file); err != nil {
			return p, fmt.Errorf("kubeconfig of %s: %w", id.name, err)
		}
	}
	return p, nil
}

func apiServerIdentity() identity {
	at := controlPlanePlace()
	return identity{
		file: "apiserver", name: "kube-apiserver",
		dns: []string{"localhost", at.name, "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc." + clusterDomain},
		ips: []netip.Addr{at.ip4, at.ip6, netip.MustParseAddr(apiService4), netip.MustParseAddr(apiService6),
			netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()},
	}
}

// makeFrontProxy makes the credentials with which the API server speaks for
// users to aggregated API servers.
func makeFrontProxy(dir string) error {
	ca, err := newAuthority(dir, "front-proxy-ca")
	if err != nil {
		return err
	}
	return ca.issue(identity{file: "front-proxy-client", name: "front-proxy-client"})
}

// makeServiceAccountKey makes the key pair that signs service account tokens.
func makeServiceAccountKey(p pki) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	if err := writeKey(p.key("service-account"), key); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writePEM(p.crt("service-account"), "PUBLIC KEY", der, 0o644)
}

// writeKubeconfig writes a kubeconfig that contains all it needs.
func (p pki) writeKubeconfig(user string) error {
	var data [3][]byte
	for i, path := range []string{p.crt("ca"), p.crt(user), p.key(user)} {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[i] = text
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: apiURL(), CertificateAuthorityData: data[0]}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: data[1], ClientKeyData: data[2]}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: user}
	config.CurrentContext = "lab"
	return clientcmd.WriteToFile(*config, p.kubeconfig(user))
}
