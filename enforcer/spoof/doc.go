// Package spoof has packets dropped that a pod sends from an address that is not its
// own, at the interface by which they come.
//
// Which interfaces are a pod's own follows from the node's links and routes, and from
// the addresses of its pods; an interface of which that is not known is not judged.
// Which addresses are the pod's own is asked of the routes, by the kernel and for each
// packet: those that lead back to the interface. docs/design/spoofing.md says why so.
package spoof
