package spoof

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/enforcer/tool"
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
}

// Script is what nft reads to guard these interfaces: the whole table, in one transaction. The kind of
// an interface is compared first, which costs what comes from the network next to nothing, and then the
// routes are asked. Hardly any packet is foreign to them; only those look up the interface.
func (n NFTables) Script(interfaces []string) []string {
	out := []string{
		"add table " + nftTable,
		"delete table " + nftTable,
		"add table " + nftTable,
		"add set " + nftTable + " guarded { type ifname ; }",
		"add chain " + nftTable + " foreign",
		"add chain " + nftTable + " sources { type filter hook prerouting priority " + beforeFragments + " ; policy accept ; }",
	}
	for _, kind := range kinds {
		out = append(out, "add rule "+nftTable+" sources meta iifkind "+strconv.Quote(kind)+" fib saddr . iif oif missing goto foreign")
	}
	out = append(out,
		"add rule "+nftTable+" foreign iifname != @guarded accept",
		"add rule "+nftTable+" foreign ip6 saddr fe80::/10 accept",
		"add rule "+nftTable+" foreign ip6 saddr :: meta l4proto ipv6-icmp accept",
	)
	if n.Log.PerSecond > 0 {
		out = append(out, "add rule "+nftTable+" foreign "+n.Log.nft())
	}
	out = append(out, "add rule "+nftTable+" foreign drop")
	if len(interfaces) == 0 {
		return out
	}
	names := make([]string, len(interfaces))
	for i, name := range interfaces {
		names[i] = strconv.Quote(name)
	}
	return append(out, "add element "+nftTable+" guarded { "+strings.Join(names, ", ")+" }")
}

// Available says whether nftables can guard here, and if not, why. It changes nothing.
func (n NFTables) Available(ctx context.Context) error {
	if _, err := tool.Run(ctx, n.Script([]string{"lo"}), "nft", "--check", "-f", "-"); err != nil {
		return fmt.Errorf("this nft or this kernel has not what guarding needs: %w", err)
	}
	return nil
}

// Write is Kernel's.
func (n NFTables) Write(ctx context.Context, interfaces []string) error {
	_, err := tool.Run(ctx, n.Script(interfaces), "nft", "-f", "-")
	return err
}

// Read is Kernel's.
func (NFTables) Read(ctx context.Context) (string, error) {
	text, err := tool.Run(ctx, nil, "nft", append([]string{"--stateless", "list", "table"}, strings.Fields(nftTable)...)...)
	if missing(err) {
		return "", nil
	}
	return words(text), err
}

// Whole is Kernel's.
func (NFTables) Whole(text string, interfaces []string) bool {
	return mentions(text, 1, "@guarded", "fib", "goto", "prerouting", "drop") && names(text, interfaces)
}

// Cleanup is Kernel's.
func (NFTables) Cleanup(ctx context.Context) error {
	_, err := tool.Run(ctx, nil, "nft", append([]string{"delete", "table"}, strings.Fields(nftTable)...)...)
	if missing(err) {
		return nil
	}
	return err
}
