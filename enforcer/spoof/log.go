package spoof

import "fmt"

// Log has packets that are dropped handed to a listener by NFLOG. The zero value hands over none.
type Log struct {
	// Group is the NFLOG group.
	Group uint16
	// Prefix tells these packets from others in the group; it is letters and hyphens alone.
	Prefix string
	// PerSecond is how many are handed over at most, in the mean.
	PerSecond int
}

func (l Log) nftStatement() string {
	return fmt.Sprintf(`limit rate %d/second burst %d packets log prefix "%s" group %d`, l.PerSecond, 2*l.PerSecond, l.Prefix, l.Group)
}

func (l Log) iptablesRule() string {
	return fmt.Sprintf("-m limit --limit %d/sec --limit-burst %d -j NFLOG --nflog-prefix %s --nflog-group %d", l.PerSecond, 2*l.PerSecond, l.Prefix, l.Group)
}
