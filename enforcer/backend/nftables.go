package backend

import (
	"context"
	"log/slog"
	"net"

	"sigs.k8s.io/knftables"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/nftables"
	"github.com/tierwall/tierwall/enforcer/pathcheck"
	"github.com/tierwall/tierwall/enforcer/spoof"
)

var _ enforcer.Updater = (*nftables.Backend)(nil)

// NFTables is the name of the backend that writes an nftables table of its own.
const NFTables = "nftables"

type nftablesDriver struct{}

// Names is Driver's.
func (nftablesDriver) Names() []string { return []string{NFTables} }

// IsPreferred reports whether kube-proxy uses nftables or IPVS.
func (nftablesDriver) IsPreferred(ctx context.Context) bool {
	return kubeProxyUsesNFTables(ctx) || kubeProxyUsesIPVS()
}

// Open is Driver's.
func (nftablesDriver) Open(ctx context.Context, o Options) (Instance, error) {
	b, err := nftables.New(ctx, nftables.Options{DenyLog: denyLog(o), Log: o.Log})
	if err != nil {
		return Instance{}, err
	}
	return Instance{Backend: b, Sources: spoof.NFTables{Log: sourceLog(o)}, OpenConnections: openConntrack}, nil
}

// OpenPredecessor is Driver's.
func (nftablesDriver) OpenPredecessor(ctx context.Context, log *slog.Logger) (enforcer.Predecessor, error) {
	b, err := nftables.New(ctx, nftables.Options{Log: log})
	if err != nil {
		return nil, err // not a nil *Backend, which would be a predecessor
	}
	return b, nil
}

// SourceGuards is Driver's.
func (nftablesDriver) SourceGuards() []spoof.Kernel { return []spoof.Kernel{spoof.NFTables{}} }

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
