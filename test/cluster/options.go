package cluster

import (
	"fmt"
	"io"
	"os"
)

// Values of [Options.ProxyMode] and [Options.IPTables].
const (
	ProxyIPTables = "iptables"
	ProxyNFTables = "nftables"

	IPTablesNFT    = "nft"
	IPTablesLegacy = "legacy"
)

// Options say what kind of lab to boot. The zero value is a useful lab.
type Options struct {
	// Dir holds the state of the lab while it runs, and is removed with it.
	// Default: [DefaultDir].
	Dir string
	// ProxyMode is the mode of kube-proxy: iptables (default) or nftables.
	ProxyMode string
	// IPTables is the variant of iptables that kubelet, kube-proxy and the CNI
	// plugins of the nodes use: nft (default) or legacy.
	IPTables string
	// Images are further image archives to import into every node.
	Images []string
	// Log gets one line for each step. Default: discarded.
	Log io.Writer
}

// DefaultDir is the state directory: $TIERWALL_LAB, or /var/lib/tierwall-lab.
func DefaultDir() string {
	if dir := os.Getenv("TIERWALL_LAB"); dir != "" {
		return dir
	}
	return "/var/lib/tierwall-lab"
}

func (o *Options) complete() error {
	o.Dir = orElse(o.Dir, DefaultDir())
	o.ProxyMode = orElse(o.ProxyMode, ProxyIPTables)
	o.IPTables = orElse(o.IPTables, IPTablesNFT)
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.ProxyMode != ProxyIPTables && o.ProxyMode != ProxyNFTables {
		return fmt.Errorf("proxy mode %q: want %s or %s", o.ProxyMode, ProxyIPTables, ProxyNFTables)
	}
	if o.IPTables != IPTablesNFT && o.IPTables != IPTablesLegacy {
		return fmt.Errorf("iptables variant %q: want %s or %s", o.IPTables, IPTablesNFT, IPTablesLegacy)
	}
	return nil
}

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
