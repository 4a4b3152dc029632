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
	// Back is what the server sends, as a flow of its own. Of a one-way entry it is what the
	// client of the connection sent that was cut.
	Back policy.Flow
	// OneWay says that this is no connection, but an entry in the place of one that was cut.
	OneWay bool
	// entry are the netlink attributes of its entry. They are part of a larger buffer.
	entry []byte
	// place is of what a one-way entry in its place is made.
	place oneWay
}

// kept is the connection with what it takes to delete it, and nothing more.
func (c Connection) kept() Connection {
	c.entry, c.place = naming(c.entry), placeOf(c.entry)
	return c
}

// returns reports whether the program allows the server to send on after the connection was cut, so that
// its client could answer.
func (c Connection) returns(e *eval.Evaluator) bool {
	return c.Flow.Protocol == policy.UDP && !c.OneWay && c.backAllowed(e)
}

// backAllowed reports whether the program allows what the server sends, or of a one-way entry what the client sent that was cut.
func (c Connection) backAllowed(e *eval.Evaluator) bool {
	return e.Decide(c.Back).Verdict == policy.Allow
}

func (c Connection) backDenied(e *eval.Evaluator) bool { return !c.backAllowed(e) }

// denied reports whether the program denies the connection.
func (c Connection) denied(e *eval.Evaluator) bool {
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
		return deniedToItself(e, own, f), own
	}
	if !d.Egress.Verdict.Permits() {
		return true, d.Egress.Endpoint
	}
	return d.Verdict != policy.Allow, d.Ingress.Endpoint
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
