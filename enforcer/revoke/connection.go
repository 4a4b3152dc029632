package revoke

import (
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// Connection is a tracked connection.
type Connection struct {
	// Flow is the connection as policy judges it: from who opened it to where
	// destination translation led it, before source translation.
	Flow policy.Flow
	// Parent is the flow of the connection that this one is related to, such as the data
	// connection of an FTP session; it is allowed for its parent's sake. Nil if there is none.
	Parent *policy.Flow
	// entry are the netlink attributes of its entry. They are part of a larger buffer.
	entry []byte
}

// kept is the connection with what it takes to delete it, and nothing more.
func (c Connection) kept() Connection {
	c.entry = naming(c.entry)
	return c
}

// denied says whether the program denies the connection.
func (c Connection) denied(e *eval.Evaluator) bool {
	f := c.Flow
	if c.Parent != nil {
		f = *c.Parent
	}
	d := e.Decide(f)
	if own := d.Egress.Endpoint; f.Source == f.Destination && own != "" {
		return deniedToItself(e, own, f)
	}
	return d.Verdict != policy.Allow
}

// deniedToItself judges a connection of an endpoint to itself. By its own address such
// a one stays within the pod; what is tracked came by way of a Service, and is
// subject to policy.
func deniedToItself(e *eval.Evaluator, own string, f policy.Flow) bool {
	for _, d := range policy.Directions {
		if !e.Direction(own, d, f.Source, f.Protocol, f.DestinationPort).Verdict.Permits() {
			return true
		}
	}
	return false
}
