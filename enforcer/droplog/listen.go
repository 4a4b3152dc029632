package droplog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/florianl/go-nflog/v2"
	"golang.org/x/sys/unix"
)

// copied is how many bytes of a packet the kernel copies: enough for any IPv4 header, the usual extension headers of IPv6,
// and the ports.
const copied = 256

// listenNFLOG calls take with each of our packets in an NFLOG group, and overflow whenever the kernel dropped some, until ctx
// ends or reading fails.
func listenNFLOG(ctx context.Context, group uint16, take func(packetKind, []byte), overflow func()) error {
	l, err := nflog.Open(&nflog.Config{Group: group, Copymode: nflog.CopyPacket, Bufsize: copied})
	if err != nil {
		return fmt.Errorf("open NFLOG: %w", err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	hook := func(a nflog.Attribute) int {
		if a.Payload == nil || a.Prefix == nil {
			return 0
		}
		if w, ours := kindsByPrefix[strings.TrimRight(*a.Prefix, "\x00")]; ours {
			take(w, *a.Payload)
		}
		return 0
	}
	onError := func(err error) int {
		switch {
		case errors.Is(err, unix.ENOBUFS):
			overflow()
			return 0
		case ctx.Err() == nil:
			failed <- err
		}
		return 1
	}
	if err := l.RegisterWithErrorFunc(ctx, hook, onError); err != nil {
		return fmt.Errorf("listen to NFLOG group %d: %w", group, err)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-failed:
		return fmt.Errorf("read from NFLOG group %d: %w", group, err)
	}
}
