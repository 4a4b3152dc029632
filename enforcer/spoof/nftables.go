package spoof

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/enforcer/command"
)

// nftTable is a table of our own. It is not that of the policies, whose programs do not depend on routes.
const nftTable = "inet tierwall-sources"

// beforeFragments is the priority before that at which fragments are put together (NF_IP_PRI_RAW_BEFORE_DEFRAG in
// linux/netfilter_ipv4.h, and the same for IPv6). After that, a packet comes by the interface of its last fragment alone.
const beforeFragments = "-450"

// NFTables guards with nftables.
type NFTables struct {
	// Log is the NFLOG statement for what is dropped, and empty for none.
	Log Log
	// AnySource says that sources are not held against the routes; those that are link-local are judged still.
	AnySource bool
}

// Name implements Kernel.
func (NFTables) Name() string { return "nftables" }

// WithAnySource implements Kernel.
func (n NFTables) WithAnySource() Kernel {
	n.AnySource = true
	return n
}

// The valid messages of neighbour discovery (RFC 4861) that a host sends, and of multicast listeners (RFC 2710, RFC 3810). A
// pod is no router, and sends neither advertisements of one nor redirects.
const (
	hostDiscovery = "icmpv6 type { 133, 135, 136 } icmpv6 code 0 ip6 hoplimit 255"
	listeners     = "icmpv6 type { 131, 132, 143 } ip6 hoplimit 1 ip6 daddr ff02::/16"
)

// linkLocal4 are the link-local addresses of IPv4 (RFC 3927), which some networks route to pods.
const linkLocal4 = "169.254.0.0/16"

// Script is what nft reads to guard these interfaces: the whole table, in one transaction. The kind of
// an interface is compared first, which costs what comes from the network next to nothing, and then the
// routes are asked. Hardly any packet is foreign to them; only those look up the interface.
func (n NFTables) Script(i Interfaces) []string {
	out := []string{"add table " + nftTable, "delete table " + nftTable, "add table " + nftTable}
	for _, set := range []string{"guarded", "pods", "shared"} {
		out = append(out, "add set "+nftTable+" "+set+" { type ifname ; }")
	}
	for _, chain := range []string{"dropped", "foreign", "link-local", "on-link"} {
		out = append(out, "add chain "+nftTable+" "+chain)
	}
	out = append(out, "add chain "+nftTable+" sources { type filter hook prerouting priority "+beforeFragments+" ; policy accept ; }")
	rule := func(chain string, rules ...string) {
		for _, r := range rules {
			out = append(out, "add rule "+nftTable+" "+chain+" "+r)
		}
	}
	for _, kind := range i.kindsToCheck() {
		rule("sources", "meta iifkind "+strconv.Quote(kind)+" ip6 saddr fe80::/10 goto link-local")
		sources := ""
		if n.AnySource {
			sources = "ip saddr " + linkLocal4 + " "
		}
		rule("sources", "meta iifkind "+strconv.Quote(kind)+" "+sources+"fib saddr . iif oif missing goto foreign")
	}
	if !n.AnySource {
		for _, t := range i.Tunnels {
			rule("sources", "iifname @pods "+t.nftMatch()+" goto dropped")
		}
	}
	if len(i.Shared) > 0 {
		for _, to := range []string{"ip6 daddr fe80::/10", "ip6 daddr ff00::/8", "ip daddr 224.0.0.0/4", "ip daddr 255.255.255.255"} {
			rule("sources", "meta iifkind "+strconv.Quote(bridge)+" "+to+" jump on-link")
		}
	}
	rule("foreign", "iifname != @guarded accept", "ip6 saddr :: "+hostDiscovery+" accept", "ip6 saddr :: "+listeners+" accept", "goto dropped")
	rule("link-local", "iifname != @pods accept", hostDiscovery+" accept", "iifname @shared "+listeners+" accept", "goto dropped")
	rule("on-link", "iifname != @shared return", hostDiscovery+" return", listeners+" return", "udp dport 67 return", "goto dropped")
	if n.Log.PerSecond > 0 {
		rule("dropped", n.Log.nftStatement())
	}
	rule("dropped", "drop")
	for set, names := range map[string][]string{"guarded": i.Guarded(), "pods": i.All(), "shared": i.Shared} {
		if len(names) > 0 {
			out = append(out, "add element "+nftTable+" "+set+" { "+quoteNames(names)+" }")
		}
	}
	slices.Sort(out[slices.Index(out, "add rule "+nftTable+" dropped drop")+1:])
	return out
}

func (t Tunnel) nftMatch() string {
	if t.Port == 0 {
		return fmt.Sprintf("meta l4proto %d", t.Protocol)
	}
	return fmt.Sprintf("meta l4proto %d th dport %d", t.Protocol, t.Port)
}

// kindsToCheck returns the kinds of interfaces whose packets are checked.
func (i Interfaces) kindsToCheck() []string {
	if len(i.Shared) > 0 {
		return append(slices.Clone(kinds), bridge)
	}
	return kinds
}

func quoteNames(names []string) string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = strconv.Quote(name)
	}
	return strings.Join(out, ", ")
}

// Available reports whether nftables can guard here, and if not, why. It changes nothing.
func (n NFTables) Available(ctx context.Context) error {
	if _, err := command.Run(ctx, n.Script(Interfaces{Own: []string{"lo"}, Shared: []string{"lo"}}), "nft", "--check", "-f", "-"); err != nil {
		return fmt.Errorf("nft or the kernel lacks a feature that anti-spoofing needs: %w", err)
	}
	return nil
}

// Write implements Kernel.
func (n NFTables) Write(ctx context.Context, i Interfaces) error {
	_, err := command.Run(ctx, n.Script(i), "nft", "-f", "-")
	return err
}

// Read implements Kernel.
func (NFTables) Read(ctx context.Context) (string, error) {
	text, err := command.Run(ctx, nil, "nft", append([]string{"--stateless", "list", "table"}, strings.Fields(nftTable)...)...)
	if isNotFound(err) {
		return "", nil
	}
	return sortedWords(text), err
}

// Whole implements Kernel.
func (n NFTables) Whole(text string, i Interfaces) bool {
	return mentionsAll(text, 1, "@guarded", "@pods", "link-local", "fib", "goto", "prerouting", "drop") && containsAllNames(text, i.All())
}

// Cleanup implements Kernel.
func (NFTables) Cleanup(ctx context.Context) error {
	_, err := command.Run(ctx, nil, "nft", append([]string{"delete", "table"}, strings.Fields(nftTable)...)...)
	if isNotFound(err) {
		return nil
	}
	return err
}
