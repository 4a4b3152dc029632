//go:build cluster

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/shop"
)

// TestBackends installs on nodes that use legacy iptables and a kube-proxy in
// nftables mode, with stock Kubernetes' default action: what no policy selects
// stays open, what one selects is closed, by legacy iptables where that is asked
// for and by nftables otherwise. Under way from one to the other nothing leaks
// and nothing breaks. What is denied, what the namespace test lets pass under Audit,
// and what is sent from another's address is told by both.
func TestBackends(t *testing.T) {
	f := boot(t, cluster.Options{IPTables: cluster.IPTablesLegacy, ProxyMode: cluster.ProxyNFTables})
	f.deployShop(t)
	f.install(t, "--set", "defaultAction=Allow", "--set", "enforcer.backend=iptables", "--set", "enforcer.logDenials=50",
		"--set", "namespaceDefaultActions.test=Audit")
	f.wantReach(t, func(_, _ shop.Workload) bool { return true })
	f.run(t, "kubectl", "apply", "-f", "../../demo/shop/roles.yaml")
	f.run(t, "kubectl", "apply", "-f", "testdata/deny-prod.yaml", "-f", "testdata/forger.yaml")
	f.scraper(t)
	prodClosed := func(_, to shop.Workload) bool { return to.Namespace != "prod" }
	f.wantReach(t, prodClosed)
	f.wantEnforcedBy(t, "iptables-legacy-save")
	f.wantTold(t)

	c := f.startCanaries(t, "test/frontend", "prod/data", "test/backend")
	f.run(t, "helm", "upgrade", "tierwall", "../../charts/tierwall", "-n", systemNamespace, "--reuse-values", "--set", "enforcer.backend=auto")
	f.await(t, "daemonset/tierwall-enforcer")
	c.stop(t, "the change of backend")
	f.wantEnforcedBy(t, "nft")
	f.wantReach(t, prodClosed)
	f.wantTold(t)
	f.run(t, "helm", "uninstall", "tierwall", "-n", systemNamespace, "--wait", "--timeout", "3m")
	f.wantEnforcedBy(t)
}

// listings are the commands that list the rules of a node, each with what
// shows that ours are among them. The table of sources is there beside either backend.
var listings = map[string]struct {
	command []string
	ours    string
}{
	"iptables-legacy-save": {[]string{"iptables-legacy-save"}, "TIERWALL-"},
	"iptables-nft-save":    {[]string{"iptables-nft-save"}, "TIERWALL-"},
	"nft":                  {[]string{"nft", "list", "tables"}, "table inet tierwall\n"},
}

// wantEnforcedBy looks for our rules on every node: they are in these listings, and in no other.
func (f *fixture) wantEnforcedBy(t *testing.T, wanted ...string) {
	t.Helper()
	for _, node := range f.lab.Nodes() {
		for name, listing := range listings {
			out, err := node.Exec(t.Context(), listing.command...)
			must(t, err)
			if got, want := strings.Contains(out+"\n", listing.ours), slices.Contains(wanted, name); got != want {
				t.Errorf("%s on %s shows ours: %v, want %v", name, node.Name, got, want)
			}
		}
	}
}
