// Package sctp is SCTP (RFC 9260) in user space, on raw sockets, for kernels
// without SCTP sockets. It takes the place of github.com/ishidawataru/sctp in
// the lab's build of agnhost, and has as much of its API as agnhost calls.
//
// Packets are what the network and its filters expect of SCTP: the handshake of
// four with a state cookie, verification tags, CRC32c, DATA and SACK, SHUTDOWN
// and ABORT. What two test programs do not need is left out: several addresses
// and streams, fragments, flow and congestion control. An association sends
// again at a fixed interval.
//
// A raw socket gets all SCTP packets of its network namespace, so that servers
// in several containers of a pod do not disturb each other. It needs
// CAP_NET_RAW. There is nobody who answers for a port that is not served: a
// client that calls there waits until it gives up.
package sctp
