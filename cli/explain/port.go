package explain

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tierwall/tierwall/policy"
)

// Port is the destination's port in a question: a number, or a name that the destination gives one.
type Port struct {
	Protocol policy.Protocol
	// AnyProtocol is true where a name was given without a protocol.
	AnyProtocol bool
	// Number is 0 for names, and for protocols without ports.
	Number uint16
	Name   string
}

func (p Port) String() string {
	switch {
	case p.Name != "" && p.AnyProtocol:
		return p.Name
	case p.Name != "":
		return fmt.Sprintf("%s/%s", p.Name, p.Protocol)
	case p.Protocol.HasPorts():
		return fmt.Sprintf("%d/%s", p.Number, p.Protocol)
	}
	return p.Protocol.String()
}

// accepts reports whether a port of the protocol and the name is the one.
func (p Port) accepts(protocol policy.Protocol, name string) bool {
	return p.Name == name && (p.AnyProtocol || p.Protocol == protocol)
}

// ParsePort reads such as 5432/TCP, TCP/5432, 53/udp, 8080, postgres, dns/UDP or icmp.
func ParsePort(text string) (Port, error) {
	port, name, both := strings.Cut(text, "/")
	if _, ok := protocols[strings.ToUpper(port)]; ok && both {
		port, name = name, port
	}
	if !both {
		name = "TCP"
		if p, ok := protocols[strings.ToUpper(port)]; ok && !p.HasPorts() {
			port, name = "", port
		}
	}
	protocol, ok := protocols[strings.ToUpper(name)]
	if !ok {
		return Port{}, fmt.Errorf("port %q: there is no protocol %q; want TCP, UDP, SCTP or ICMP", text, name)
	}
	if !protocol.HasPorts() && port == "" {
		return Port{Protocol: protocol}, nil
	}
	var number uint16
	_, err := fmt.Sscanf(port, "%d", &number)
	switch {
	case !protocol.HasPorts():
	case err == nil && number != 0 && fmt.Sprint(number) == port:
		return Port{Protocol: protocol, Number: number}, nil
	case len(validation.IsValidPortName(port)) == 0 && strings.ToUpper(port) != port:
		return Port{Protocol: protocol, AnyProtocol: !both, Name: port}, nil
	}
	return Port{}, fmt.Errorf("port %q: want a number from 1 to 65535 or the name of a port, and a protocol, such as 5432/TCP or postgres", text)
}

var protocols = map[string]policy.Protocol{"TCP": policy.TCP, "UDP": policy.UDP, "SCTP": policy.SCTP, "ICMP": policy.ICMP, "ICMPV6": policy.ICMPv6}
