package nft

import "fmt"

// DenyLog has first packets that are denied handed to a listener by NFLOG, so that
// it can say what was denied and why. The zero value hands over none.
type DenyLog struct {
	// Group is the NFLOG group.
	Group uint16
	// Prefix tells our packets from those of others in the group.
	Prefix string
	// PerSecond is how many packets a second are handed over at most, in the mean; 0 is none.
	PerSecond int
}

// deniedChain is where what is denied goes, if it is logged.
const deniedChain = "denied"

// verdict is what is done with a denied packet.
func (l DenyLog) verdict() string {
	if l.PerSecond <= 0 {
		return "drop"
	}
	return "goto " + deniedChain
}

// denied makes the chain of what is denied where it is logged. Strays are not logged: they
// are about the past.
func (r *renderer) denied() {
	if r.log.PerSecond > 0 {
		r.chain(deniedChain, "", Rule{Text: fmt.Sprintf(`limit rate %d/second burst %d packets log prefix "%s" group %d`,
			r.log.PerSecond, 2*r.log.PerSecond, sanitize(r.log.Prefix, "-_"), r.log.Group)}, Rule{Text: "drop"})
	}
}
