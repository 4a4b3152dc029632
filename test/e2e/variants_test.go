//go:build cluster

package e2e

import (
	"strings"
	"testing"

	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/shop"
)

// TestLegacyNodes installs on nodes that use legacy iptables and a kube-proxy in
// nftables mode, with stock Kubernetes' default action: what no policy
// selects stays open, what one selects is closed.
func TestLegacyNodes(t *testing.T) {
	f := boot(t, cluster.Options{IPTables: cluster.IPTablesLegacy, ProxyMode: cluster.ProxyNFTables})
	f.deployShop(t)
	f.install(t, "--set", "defaultAction=Allow")
	f.wantReach(t, func(_, _ shop.Workload) bool { return true })
	f.run(t, "kubectl", "apply", "-f", "../../demo/shop/roles.yaml")
	f.run(t, "kubectl", "apply", "-f", "testdata/deny-prod.yaml")
	f.wantReach(t, func(_, to shop.Workload) bool { return to.Namespace != "prod" })
	for _, node := range f.lab.Nodes() {
		legacy, err := node.Exec(t.Context(), "iptables-legacy-save")
		must(t, err)
		nft, err := node.Exec(t.Context(), "iptables-nft-save")
		must(t, err)
		if !strings.Contains(legacy, "TIERWALL-") || strings.Contains(nft, "TIERWALL-") {
			t.Errorf("%s: want our chains in legacy iptables and only there", node.Name)
		}
	}
}
