package backend

import (
	"context"
	"log/slog"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/spoof"
)

var _ enforcer.Updater = (*iptables.Backend)(nil)

// IPTables is the name of the backend that writes iptables chains and ipsets, in the mode that the node already uses.
const IPTables = "iptables"

// iptablesModes are the modes by the driver's names.
var iptablesModes = map[string]iptables.Mode{IPTables: iptables.Auto, "iptables-nft": iptables.NFT, "iptables-legacy": iptables.Legacy}

type iptablesDriver struct{}

// Names is Driver's.
func (iptablesDriver) Names() []string { return []string{IPTables, "iptables-nft", "iptables-legacy"} }

// IsPreferred returns true: every node that no other driver is preferred on.
func (iptablesDriver) IsPreferred(context.Context) bool { return true }

// Open is Driver's.
func (iptablesDriver) Open(ctx context.Context, o Options) (Instance, error) {
	b, err := iptables.New(ctx, iptables.Options{Mode: iptablesModes[o.Name], DenyLog: denyLog(o), Log: o.Log})
	if err != nil {
		return Instance{}, err
	}
	return Instance{Backend: b, Sources: chooseSourceGuard(ctx, o, b.Mode()), OpenConnections: openConntrack, BeforeIPVS: true}, nil
}

// OpenPredecessor is Driver's.
func (iptablesDriver) OpenPredecessor(ctx context.Context, log *slog.Logger) (enforcer.Predecessor, error) {
	b, err := iptables.New(ctx, iptables.Options{Mode: iptables.Auto, Log: log})
	if err != nil {
		return nil, err // not a nil *Backend, which would be a predecessor
	}
	return b, nil
}

// SourceGuards is Driver's.
func (iptablesDriver) SourceGuards() []spoof.Kernel {
	return []spoof.Kernel{spoof.NFTables{}, spoof.IPTables{Mode: iptables.NFT.String()}, spoof.IPTables{Mode: iptables.Legacy.String()}}
}

// chooseSourceGuard returns nftables where it can guard, because it alone judges fragments one by one.
func chooseSourceGuard(ctx context.Context, o Options, m iptables.Mode) spoof.Kernel {
	tables := spoof.NFTables{Log: sourceLog(o)}
	if err := tables.Available(ctx); err != nil {
		o.Log.Info("sources are guarded by iptables", "because", err)
		return spoof.IPTables{Mode: m.String(), Log: sourceLog(o)}
	}
	return tables
}
