//go:build netns

package packets

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/nftables"
	"github.com/tierwall/tierwall/enforcer/spoof"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/netns"
)

// site is a node with a client and a server, and what judges the packets between them.
type site struct {
	name                 string
	node, client, server *netns.Host
	// elsewhere has the address of a pod of another node.
	elsewhere *netns.Host
}

// backend puts a program in force.
type backend interface {
	Apply(ctx context.Context, p *policy.Program) error
}

// engines are the backends by name.
var engines = []struct {
	name string
	open func(context.Context) (backend, error)
}{
	{"nftables", func(ctx context.Context) (backend, error) { return nftables.New(ctx, nftables.Options{}) }},
	{"iptables", func(ctx context.Context) (backend, error) {
		return iptables.New(ctx, iptables.Options{Mode: iptables.NFT})
	}},
}

// newSite is a node on which nothing tracks connections.
func newSite(b *testing.B, name string) *site {
	b.Helper()
	lab := netns.NewLab(b, []policy.Host{{Name: "node", Addrs: []netip.Addr{nodeAddr}}})
	s := &site{name: name, node: lab.Nodes["node"]}
	s.client, s.server = lab.AddPod(b, "node", "client", clientAddr), lab.AddPod(b, "node", "server", serverAddr)
	s.elsewhere = lab.AddPod(b, "node", "elsewhere", elsewhereAddr)
	s.node.Run(b, "nft", "flush", "ruleset")
	return s
}

// tracking is a node with connection tracking and one rule, which is the floor.
func tracking(b *testing.B) *site {
	s := newSite(b, "tracking alone")
	s.node.Run(b, "nft", "add table inet floor; add chain inet floor forward { type filter hook forward priority 0; }; "+
		"add rule inet floor forward ct state established,related accept")
	return s
}

// enforced is a node on which a backend enforces what a load asks.
func enforced(b *testing.B, name string, open func(context.Context) (backend, error), p *policy.Program) *site {
	s := newSite(b, name)
	err := s.node.Do(func() error {
		k, err := open(b.Context())
		if err != nil {
			return err
		}
		return k.Apply(b.Context(), p)
	})
	if err != nil {
		b.Fatal(errors.Join(fmt.Errorf("%s: the program", name), err))
	}
	return s
}

// guarded has forged sources dropped at the pods' interfaces, which nftables does beside either backend.
func (s *site) guarded(b *testing.B) {
	var pods []string
	for _, link := range strings.Fields(s.node.Run(b, "ip", "-brief", "link", "show", "type", "veth")) {
		if name, _, ok := strings.Cut(link, "@"); ok && name != "eth0" {
			pods = append(pods, name)
		}
	}
	if err := s.node.Do(func() error { return spoof.NFTables{}.Write(b.Context(), spoof.Interfaces{Own: pods}) }); err != nil || len(pods) != 3 {
		b.Fatalf("guarding %v: %v", pods, err)
	}
}
