package chart

// A variant is a way to install the chart. Every test of what is rendered
// holds for all of them.
type variant struct {
	name string
	args []string
}

var variants = []variant{
	{name: "default"},
	{name: "cert-manager", args: []string{"--api-versions", "cert-manager.io/v1"}},
	{name: "allow", args: []string{
		"--set", "defaultAction=Allow",
		"--set", "namespaceDefaultActions.prod=Deny",
		"--set", "namespaceDefaultActions.legacy=Audit",
		"--set", "exemptNamespaces={monitoring}",
		"--set", "certificates.provider=self",
		"--set", "dns.namespace=dns",
		"--set", "dns.addresses={169.254.20.10/32}",
		"--set", "imagePullSecrets[0].name=registry",
		"--set", "guardrails=null",
		"--set", "uninstall.keepCRDs=true",
	}},
	{name: "corporate-issuer", args: []string{
		"--set", "certificates.provider=cert-manager",
		"--set", "certificates.issuerRef.name=corporate",
		"--set", "certificates.issuerRef.kind=ClusterIssuer",
		"--set", "webhook.clientCA=-----BEGIN CERTIFICATE-----\nMFkwEw==\n-----END CERTIFICATE-----",
		"--set", "webhook.clientNames={kube-apiserver}",
		"--set", "bundle.url=oci:/etc/tierwall/bundle",
		"--set", "bundle.publicKey=-----BEGIN PUBLIC KEY-----\nMFkwEw==\n-----END PUBLIC KEY-----",
		"--set", "bundle.algorithm=ES256",
		"--set", "bundle.volume.persistentVolumeClaim.claimName=guardrails",
	}},
	{name: "cni", args: []string{
		"--set", "enforcer.cni.enabled=true",
		"--set", "enforcer.cni.binDir=/usr/lib/cni",
	}},
}
