package iptables

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/tierwall/tierwall/enforcer/command"
)

// Mode is the part of the kernel that iptables programs.
type Mode uint8

const (
	// Auto is the mode that the node already uses.
	Auto Mode = iota
	// NFT is iptables over nf_tables.
	NFT
	// Legacy is iptables over x_tables.
	Legacy
)

func (m Mode) String() string {
	switch m {
	case NFT:
		return "nft"
	case Legacy:
		return "legacy"
	default:
		return "auto"
	}
}

// ParseMode reads a mode: auto, nft or legacy.
func ParseMode(s string) (Mode, error) {
	for _, m := range []Mode{Auto, NFT, Legacy} {
		if m.String() == s {
			return m, nil
		}
	}
	return Auto, fmt.Errorf("iptables mode %q: want auto, nft or legacy", s)
}

// kubeletChain matches the chains that the kubelet makes for others to see
// which mode it uses (KEP-3178, KUBE-IPTABLES-HINT).
var kubeletChain = regexp.MustCompile(`(?m)^:(KUBE-IPTABLES-HINT|KUBE-KUBELET-CANARY) `)

// detectMode finds the mode that the node uses, as kubernetes-sigs/iptables-wrappers
// does: that of the kubelet's chains, else the one with more rules, else nft. It
// reads with the save tools, which load no module and make no table.
func detectMode(ctx context.Context) (Mode, error) {
	nft, nftErr := readMode(ctx, NFT)
	legacy, legacyErr := readMode(ctx, Legacy)
	if nftErr != nil && legacyErr != nil {
		return Auto, fmt.Errorf("finding the iptables mode: %w", errors.Join(nftErr, legacyErr))
	}
	switch {
	case legacyErr != nil || kubeletChain.MatchString(nft):
		return NFT, nftErr
	case nftErr != nil || kubeletChain.MatchString(legacy):
		return Legacy, nil
	case strings.Count(legacy, "\n-A ") > strings.Count(nft, "\n-A "):
		return Legacy, nil
	default:
		return NFT, nil
	}
}

// readMode is everything that a mode has in the kernel. IPv6 may be absent.
func readMode(ctx context.Context, m Mode) (string, error) {
	v4, err := command.Run(ctx, nil, "iptables-"+m.String()+"-save")
	if err != nil {
		return "", err
	}
	v6, err := command.Run(ctx, nil, "ip6tables-"+m.String()+"-save")
	if err != nil {
		return v4, nil
	}
	return v4 + v6, nil
}
