package cni

import (
	"net/netip"
	"time"
)

// Type is the name of the plugin in a CNI configuration, and of its program.
const Type = "tierwall-cni"

// Socket is where the agent listens.
const Socket = "/run/tierwall/cni.sock"

// Verb says what is asked.
type Verb string

const (
	// Add has the pod's rules put in force, and waits for that.
	Add Verb = "add"
	// Check asks whether they are.
	Check Verb = "check"
	// Del says that the container is gone.
	Del Verb = "del"
	// GC says which containers there are.
	GC Verb = "gc"
)

// Request is what the plugin asks.
type Request struct {
	Verb      Verb   `json:"verb"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// UID is the pod's; empty where the container runtime does not tell it.
	UID string `json:"uid,omitempty"`
	// Container is the ID of the pod's sandbox.
	Container string `json:"container,omitempty"`
	// Addrs are what the plugins before gave the pod.
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// Containers are all there are, for GC.
	Containers []string `json:"containers,omitempty"`
	// Timeout is how long to wait, in nanoseconds.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Answer is what the agent answers. The zero value is success.
type Answer struct {
	// Missing is what the pod waits for in vain.
	Missing string `json:"missing,omitempty"`
}
