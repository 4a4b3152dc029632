// Package backend chooses what a node is enforced with: nftables, or iptables in
// one of its modes.
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"sigs.k8s.io/knftables"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/droplog"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/nftables"
	"github.com/tierwall/tierwall/enforcer/pathcheck"
	"github.com/tierwall/tierwall/enforcer/spoof"
	"github.com/tierwall/tierwall/policy"
)

// The names of backends. Auto is nftables where kube-proxy uses it or IPVS, and
// elsewhere the mode of iptables that the node already uses.
const (
	Auto     = "auto"
	NFTables = "nftables"
	IPTables = "iptables"
)

var modes = map[string]iptables.Mode{IPTables: iptables.Auto, "iptables-nft": iptables.NFT, "iptables-legacy": iptables.Legacy}

// Names are all that Open takes.
var Names = []string{Auto, NFTables, IPTables, "iptables-nft", "iptables-legacy"}

// Both take changes as well as programs.
var (
	_ enforcer.Updater = (*nftables.Backend)(nil)
	_ enforcer.Updater = (*iptables.Backend)(nil)
)

// Choice is the backend of a node, and the one that may have been it before.
type Choice struct {
	enforcer.Backend
	// Predecessor may be nil: then there is nothing that could have been left.
	Predecessor enforcer.Predecessor
	// Sources drops what pods send from addresses of others.
	Sources spoof.Kernel
}

// Options say what to open. Log is required.
type Options struct {
	// Name is one of Names.
	Name string
	// LogDenials is how many denied packets a second are handed to droplog.Group, LogAudits
	// how many of those that Audit lets pass, of each direction; 0 is none.
	LogDenials, LogAudits int
	Log                   *slog.Logger
}

// Open opens the backend of the name. What the other one left stays in force
// until the caller has put a program in force and cleans it up.
func Open(ctx context.Context, o Options) (Choice, error) {
	name, log := o.Name, o.Log
	if !slices.Contains(Names, name) {
		return Choice{}, fmt.Errorf("backend %q: want one of %s", name, strings.Join(Names, ", "))
	}
	if name == Auto {
		name = IPTables
		if kubeProxyUsesNFTables(ctx) || kubeProxyUsesIPVS() {
			name = NFTables
		}
		log.Info("chose the backend", "backend", name)
	}
	if name == NFTables {
		return openNFTables(ctx, o)
	}
	return openIPTables(ctx, o)
}

func openNFTables(ctx context.Context, o Options) (Choice, error) {
	b, err := nftables.New(ctx, nftables.Options{DenyLog: nftables.DenyLog(denyLog(o)), Log: o.Log})
	if err != nil {
		return Choice{}, err
	}
	c := Choice{Backend: b, Sources: spoof.NFTables{Log: spoofLog(o)}}
	if other, err := iptables.New(ctx, iptables.Options{Mode: iptables.Auto, Log: o.Log}); err == nil {
		c.Predecessor = other
	}
	return c, nil
}

func openIPTables(ctx context.Context, o Options) (Choice, error) {
	b, err := iptables.New(ctx, iptables.Options{Mode: modes[o.Name], DenyLog: denyLog(o), Log: o.Log})
	if err != nil {
		return Choice{}, err
	}
	c := Choice{Backend: b, Sources: sources(ctx, o, b.Mode())}
	if other, err := nftables.New(ctx, nftables.Options{Log: o.Log}); err == nil {
		c.Predecessor = other
	}
	return c, nil
}

// sources is what guards beside iptables: nftables where that can, because it alone judges fragments one by one.
func sources(ctx context.Context, o Options, m iptables.Mode) spoof.Kernel {
	tables := spoof.NFTables{Log: spoofLog(o)}
	if err := tables.Available(ctx); err != nil {
		o.Log.Info("sources are guarded by iptables", "because", err)
		return spoof.IPTables{Mode: m.String(), Log: spoofLog(o)}
	}
	return tables
}

// denyLog is what rules hand to droplog, and under which names.
func denyLog(o Options) iptables.DenyLog {
	return iptables.DenyLog{
		Group: droplog.Group, Prefix: droplog.Prefix, PerSecond: o.LogDenials,
		AuditPrefix:    [2]string{droplog.AuditPrefix(policy.Ingress), droplog.AuditPrefix(policy.Egress)},
		AuditPerSecond: o.LogAudits,
	}
}

func spoofLog(o Options) spoof.Log {
	return spoof.Log{Group: droplog.Group, Prefix: droplog.SpoofPrefix, PerSecond: o.LogDenials}
}

// kubeProxyUsesNFTables reports whether there is the table that kube-proxy makes in
// its mode nftables (KEP-3866).
func kubeProxyUsesNFTables(ctx context.Context) bool {
	table, err := knftables.New(knftables.IPv4Family, "kube-proxy")
	if err != nil {
		return false
	}
	_, err = table.List(ctx, "chains")
	return err == nil
}

// kubeProxyUsesIPVS reports whether there is the interface that kube-proxy gives the addresses of Services to in its
// mode IPVS. With iptables, egress to a Service would be judged by the Service's address.
func kubeProxyUsesIPVS() bool {
	_, err := net.InterfaceByName(pathcheck.IPVSLink)
	return err == nil
}

// Cleanup removes all that any backend of ours left on the node. A backend that
// cannot be used here has left nothing.
func Cleanup(ctx context.Context, log *slog.Logger) error {
	tables, nftErr := nftables.New(ctx, nftables.Options{Log: log})
	chains, iptErr := iptables.New(ctx, iptables.Options{Mode: iptables.Auto, Log: log})
	if nftErr != nil && iptErr != nil {
		return fmt.Errorf("neither nftables nor iptables can be used: %w", errors.Join(nftErr, iptErr))
	}
	errs := []error{spoof.Cleanup(ctx)}
	if nftErr == nil {
		errs = append(errs, tables.Cleanup(ctx))
	}
	if iptErr == nil {
		errs = append(errs, chains.Cleanup(ctx))
	}
	return errors.Join(errs...)
}
