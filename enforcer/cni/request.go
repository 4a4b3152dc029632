package cni

import (
	"net/netip"
	"time"
)

// Type is the name of the plugin in a CNI configuration, and of its program.
const Type = "tierwall-cni"

// Socket is where the agent listens.
const Socket = "/run/tierwall/cni.sock"

// Verb is the kind of a request.
type Verb string

const (
	// Add waits until the pod's rules are in force.
	Add Verb = "add"
	// Check fails unless they are in force.
	Check Verb = "check"
	// Del reports that the container is gone.
	Del Verb = "del"
	// GC reports the containers that exist.
	GC Verb = "gc"
)

// Request is a request of the plugin.
type Request struct {
	Verb      Verb   `json:"verb"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// UID is the pod's; empty if the container runtime does not pass it.
	UID string `json:"uid,omitempty"`
	// Container is the ID of the pod's sandbox.
	Container string `json:"container,omitempty"`
	// Addrs are the addresses that earlier plugins gave the pod.
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// Containers are all that exist, for GC.
	Containers []string `json:"containers,omitempty"`
	// Timeout is how long to wait, in nanoseconds.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Answer is the agent's answer. The zero value is success.
type Answer struct {
	// Missing is why the pod's rules are not ready.
	Missing string `json:"missing,omitempty"`
}
