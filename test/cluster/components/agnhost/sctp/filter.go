package sctp

import (
	"fmt"
	"net"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// filter keeps the packets to other ports out of a raw socket, so that they do
// not fill its buffer. IPv4 packets come with their header.
func filter(conn net.PacketConn, v4 bool, port uint16) error {
	load := []bpf.Instruction{bpf.LoadAbsolute{Off: 2, Size: 2}}
	set := ipv6.NewPacketConn(conn).SetBPF
	if v4 {
		load = []bpf.Instruction{bpf.LoadMemShift{Off: 0}, bpf.LoadIndirect{Off: 2, Size: 2}}
		set = ipv4.NewPacketConn(conn).SetBPF
	}
	program, err := bpf.Assemble(append(load,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(port), SkipFalse: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	))
	if err == nil {
		err = set(program)
	}
	if err != nil {
		return fmt.Errorf("filter packets to SCTP port %d: %w", port, err)
	}
	return nil
}
