//go:build cluster

package e2e

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/shop"
)

// TestBackends installs on nodes that use legacy iptables and a kube-proxy in
// nftables mode, with stock Kubernetes' default action: what no policy selects
// stays open, what one selects is closed, by legacy iptables where that is asked
// for and by nftables otherwise. Under way from one to the other nothing leaks
// and nothing breaks.
func TestBackends(t *testing.T) {
	f := boot(t, cluster.Options{IPTables: cluster.IPTablesLegacy, ProxyMode: cluster.ProxyNFTables})
	f.deployShop(t)
	f.install(t, "--set", "defaultAction=Allow", "--set", "enforcer.backend=iptables", "--set", "enforcer.logDenials=50")
	f.wantReach(t, func(_, _ shop.Workload) bool { return true })
	f.run(t, "kubectl", "apply", "-f", "../../demo/shop/roles.yaml")
	f.run(t, "kubectl", "apply", "-f", "testdata/deny-prod.yaml")
	prodClosed := func(_, to shop.Workload) bool { return to.Namespace != "prod" }
	f.wantReach(t, prodClosed)
	f.wantEnforcedBy(t, "iptables-legacy-save")
	f.wantDenialsLogged(t)

	from, denied, allowed := f.pod(t, "test/frontend"), f.pod(t, "prod/data"), f.pod(t, "test/backend")
	closed := f.startFlow(t, "denied", from, "watch", denied.Targets()[0], "-every", "5ms", "-timeout", "900ms", "-for", "60s")
	open := f.startFlow(t, "allowed", from, "watch", allowed.Targets()[0], "-every", "5ms", "-timeout", "900ms", "-for", "60s")
	f.run(t, "helm", "upgrade", "tierwall", "../../charts/tierwall", "-n", systemNamespace, "--reuse-values", "--set", "enforcer.backend=auto")
	f.await(t, "daemonset/tierwall-enforcer")
	now := time.Now()
	for _, a := range closed.waitPast(t, now) {
		if a.Reached {
			t.Errorf("leak: %+v", a)
		}
	}
	for _, a := range open.waitPast(t, now) {
		if !a.Reached {
			t.Errorf("break: %+v", a)
		}
	}
	f.wantEnforcedBy(t, "nft")
	f.wantReach(t, prodClosed)
	f.wantDenialsLogged(t)
	f.run(t, "helm", "uninstall", "tierwall", "-n", systemNamespace, "--wait", "--timeout", "3m")
	f.wantEnforcedBy(t)
}

// wantDenialsLogged looks whether the enforcers that run now said which policy denied.
func (f *fixture) wantDenialsLogged(t *testing.T) {
	t.Helper()
	eventually(t, 10*time.Second, "denials are logged", func() error {
		out := f.run(t, "kubectl", "-n", systemNamespace, "logs", "--tail=-1", "-l", "app.kubernetes.io/component=enforcer")
		for _, line := range strings.Split(grep(out, `"msg":"denied"`), "\n") {
			if strings.Contains(line, `"endpoint":"prod/`) && strings.Contains(line, `"policy":"NetworkPolicy prod/deny"`) {
				return nil
			}
		}
		return errors.New("no line names the policy of prod")
	})
}

// listings are the commands that list the rules of a node, each with the word that
// shows that ours are among them.
var listings = map[string]struct {
	command []string
	ours    string
}{
	"iptables-legacy-save": {[]string{"iptables-legacy-save"}, "TIERWALL-"},
	"iptables-nft-save":    {[]string{"iptables-nft-save"}, "TIERWALL-"},
	"nft":                  {[]string{"nft", "list", "tables"}, "table inet tierwall"},
}

// wantEnforcedBy looks for our rules on every node: they are in these listings, and in no other.
func (f *fixture) wantEnforcedBy(t *testing.T, wanted ...string) {
	t.Helper()
	for _, node := range f.lab.Nodes() {
		for name, listing := range listings {
			out, err := node.Exec(t.Context(), listing.command...)
			must(t, err)
			if got, want := strings.Contains(out, listing.ours), slices.Contains(wanted, name); got != want {
				t.Errorf("%s on %s shows ours: %v, want %v", name, node.Name, got, want)
			}
		}
	}
}
