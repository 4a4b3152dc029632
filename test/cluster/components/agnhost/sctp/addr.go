package sctp

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// SCTPAddr is the address of an endpoint. No IPAddrs is any address.
type SCTPAddr struct {
	IPAddrs []net.IPAddr
	Port    int
}

// Network is "sctp".
func (a *SCTPAddr) Network() string { return "sctp" }

// String is ADDRESS:PORT, IPv6 addresses in brackets, several joined by slashes.
func (a *SCTPAddr) String() string {
	var hosts []string
	for _, ip := range a.IPAddrs {
		host := ip.String()
		if ip.IP.To4() == nil {
			host = "[" + host + "]"
		}
		hosts = append(hosts, host)
	}
	return strings.Join(hosts, "/") + ":" + strconv.Itoa(a.Port)
}

// ResolveSCTPAddr resolves HOST:PORT. The network is sctp, sctp4 or sctp6.
func ResolveSCTPAddr(network, address string) (*SCTPAddr, error) {
	families := map[string]string{"": "tcp", "sctp": "tcp", "sctp4": "tcp4", "sctp6": "tcp6"}
	tcp, ok := families[network]
	if !ok {
		return nil, fmt.Errorf("resolve SCTP address %s: %w", address, net.UnknownNetworkError(network))
	}
	found, err := net.ResolveTCPAddr(tcp, address)
	if err != nil {
		return nil, err
	}
	a := &SCTPAddr{Port: found.Port}
	if found.IP != nil {
		a.IPAddrs = []net.IPAddr{{IP: found.IP, Zone: found.Zone}}
	}
	return a, nil
}

// addrPort is the only address, or the zero address if any will do.
func (a *SCTPAddr) addrPort() (netip.AddrPort, error) {
	if a == nil {
		return netip.AddrPort{}, nil
	}
	if len(a.IPAddrs) > 1 {
		return netip.AddrPort{}, fmt.Errorf("SCTP address %s: several addresses are not supported", a)
	}
	if a.Port < 0 || a.Port > 0xffff {
		return netip.AddrPort{}, fmt.Errorf("SCTP address %s: no such port", a)
	}
	var addr netip.Addr
	if len(a.IPAddrs) == 1 && !a.IPAddrs[0].IP.IsUnspecified() {
		addr, _ = netip.AddrFromSlice(a.IPAddrs[0].IP)
		addr = addr.Unmap().WithZone(a.IPAddrs[0].Zone)
	}
	return netip.AddrPortFrom(addr, uint16(a.Port)), nil
}

func sctpAddr(a netip.AddrPort) *SCTPAddr {
	return &SCTPAddr{IPAddrs: []net.IPAddr{*ipAddr(a.Addr())}, Port: int(a.Port())}
}

func ipAddr(a netip.Addr) *net.IPAddr {
	return &net.IPAddr{IP: a.AsSlice(), Zone: a.Zone()}
}
