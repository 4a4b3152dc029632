package ipt

import "fmt"

// DenyLog has first packets that are denied handed to a listener by NFLOG, so that
// it can say what was denied and why. The zero value hands over none.
type DenyLog struct {
	// Group is the NFLOG group.
	Group uint16
	// Prefix tells our packets from those of others in the group.
	Prefix string
	// PerSecond is how many packets a second are handed over at most, in the mean and
	// by IP family; 0 is none.
	PerSecond int
}

// denying sets the target of what is denied, and makes its chain where it is logged.
// Strays are not logged: they are about the past.
func (r *renderer) denying(log DenyLog) {
	if log.PerSecond <= 0 {
		r.deny = "-j DROP"
		return
	}
	r.deny = "-g " + denyChain
	r.add(denyChain, []string{
		fmt.Sprintf("-m limit --limit %d/sec --limit-burst %d -j NFLOG --nflog-prefix %s --nflog-group %d",
			log.PerSecond, 2*log.PerSecond, sanitize(log.Prefix, "-_"), log.Group),
		"-j DROP",
	})
}
