package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/knftables"
)

// kernel is what the Backend needs of nf_tables.
type kernel interface {
	NewTransaction() *knftables.Transaction
	Run(ctx context.Context, tx *knftables.Transaction) error
	// List reads our table. Without elements it leaves those of sets out. Where
	// there is no table, nothing is listed.
	List(ctx context.Context, elements bool) (listing, error)
	// Generation is the number of changes that anybody made to any table.
	Generation() (uint32, error)
}

// generationRequest is NFT_MSG_GETGEN of linux/netfilter/nf_tables.h.
const (
	generationRequest = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN
	generationIs      = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN
	generationID      = unix.NFTA_GEN_ID
	attributeType     = 1<<14 - 1 // of an attribute, without its flags
	netlinkHeader     = 16
	netfilterHeader   = 4
)

// readGeneration asks the kernel for its generation of tables (nf_tables calls it so).
func readGeneration() (uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, fmt.Errorf("opening netfilter's netlink: %w", err)
	}
	defer unix.Close(fd)
	timeout := unix.Timeval{Sec: 5}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return 0, fmt.Errorf("limiting the time for netlink: %w", err)
	}
	request := make([]byte, netlinkHeader+netfilterHeader)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], generationRequest)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, fmt.Errorf("asking for the generation of tables: %w", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return 0, fmt.Errorf("reading the generation of tables: %w", err)
	}
	return parseGeneration(answer[:n])
}

func parseGeneration(answer []byte) (uint32, error) {
	if len(answer) < netlinkHeader+netfilterHeader || binary.NativeEndian.Uint16(answer[4:]) != generationIs {
		return 0, errors.New("reading the generation of tables: not an answer")
	}
	rest := answer[netlinkHeader+netfilterHeader:]
	for len(rest) >= 4 {
		size, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])&attributeType
		if size < 4 || size > len(rest) {
			break
		}
		if kind == generationID && size == 8 {
			return binary.BigEndian.Uint32(rest[4:]), nil
		}
		rest = rest[min(len(rest), (size+3)&^3):]
	}
	return 0, errors.New("reading the generation of tables: the answer has none")
}
