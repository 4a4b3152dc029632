package nftables

import (
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/policy"
)

// updateStrategy is how the kernel goes from one program to another.
type updateStrategy uint8

const (
	// shadowCopy makes what changes anew under other names, and the rules switch to it.
	shadowCopy updateStrategy = iota
	// inPlace changes the elements of sets and maps in one transaction.
	inPlace
	// twoPhase adds elements in one transaction and removes others in the next.
	twoPhase
)

// chooseStrategy decides how to go from one program to another. A packet sees the rules as
// they were when it came, but looks into each set at the moment when it gets
// there: a transaction is a moment between two of its lookups. So elements
// may change in place only if a packet that meets old ones before and new ones after
// gets the verdict that one of the two programs gives.
//
// That is so where one lookup alone is concerned, or where all changes go in one
// direction: to allow more, or to allow less. Where sets gain and lose members
// that are judged in one direction only, adding all before removing any
// keeps each lookup of that direction between the two.
//
// The users are those of sets in both programs.
func chooseStrategy(old, next *policy.Program, c *policy.Change, users transition.Users) updateStrategy {
	m, e := transition.MembersOf(old, next, c, users), transition.EndpointsOf(old, next, c)
	switch {
	case c.Frame != nil:
		return shadowCopy
	case !m.Any():
		return inPlaceIf(e.OneLookup())
	case e.Reclassified[policy.Ingress] || e.Reclassified[policy.Egress] || e.Unsteady:
		return shadowCopy
	case m.Negative:
		return inPlaceIf(m.Single && !e.Any())
	case !m.Removed:
		return inPlaceIf(!e.Departed)
	case !m.Added:
		return inPlaceIf(!e.Arrived)
	case !e.Any() && !m.Touch(old):
		return twoPhase
	default:
		return shadowCopy
	}
}

func inPlaceIf(ok bool) updateStrategy {
	if ok {
		return inPlace
	}
	return shadowCopy
}
