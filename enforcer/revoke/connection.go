package revoke

import (
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// Connection is a tracked connection.
type Connection struct {
	// Flow is the connection as policies see it: from the opener to the destination after destination translation, before
	// source translation.
	Flow policy.Flow
	// Parent is the flow of the connection that this one is related to, as the data connection of an FTP session is. The
	// parent's verdict counts. Nil if there is none.
	Parent *policy.Flow
	// Back is what the server sends, as a flow of its own. For a one-way entry it is what the client of the deleted
	// connection sent.
	Back policy.Flow
	// OneWay is true for an entry that replaces a deleted connection.
	OneWay bool
	// entry holds the netlink attributes of its entry, as part of a larger buffer.
	entry []byte
	// place is what a one-way entry that replaces it is made of.
	place oneWay
}

// copyForDeletion returns a copy with no more than it takes to delete the connection.
func (c Connection) copyForDeletion() Connection {
	c.entry, c.place = identifyingAttributes(c.entry), oneWayOf(c.entry)
	return c
}

// serverMaySend reports whether the server may send on after the connection was deleted. Its client could answer then.
func (c Connection) serverMaySend(e *eval.Evaluator) bool {
	return c.Flow.Protocol == policy.UDP && !c.OneWay && c.isBackAllowed(e)
}

// isBackAllowed reports whether the program allows Back.
func (c Connection) isBackAllowed(e *eval.Evaluator) bool {
	return e.Decide(c.Back).Verdict == policy.Allow
}

func (c Connection) isBackDenied(e *eval.Evaluator) bool { return !c.isBackAllowed(e) }

// isDenied reports whether the program denies the connection.
func (c Connection) isDenied(e *eval.Evaluator) bool {
	denied, _ := c.deniedFor(e)
	return denied
}

// deniedFor reports whether the program denies the connection, and the endpoint that it is denied for, as
// "namespace/name"; empty where that is none.
func (c Connection) deniedFor(e *eval.Evaluator) (bool, string) {
	f := c.Flow
	if c.Parent != nil {
		f = *c.Parent
	}
	d := e.Decide(f)
	if own := d.Egress.Endpoint; f.Source == f.Destination && own != "" {
		return isDeniedToItself(e, own, f), own
	}
	if !d.Egress.Verdict.Permits() {
		return true, d.Egress.Endpoint
	}
	return d.Verdict != policy.Allow, d.Ingress.Endpoint
}

// isDeniedToItself evaluates a connection of an endpoint to itself. One to its own address stays within the pod; a tracked
// one came through a Service, and policies apply.
func isDeniedToItself(e *eval.Evaluator, own string, f policy.Flow) bool {
	for _, d := range policy.Directions {
		if !e.Direction(own, d, f.Source, f.Protocol, f.DestinationPort).Verdict.Permits() {
			return true
		}
	}
	return false
}
