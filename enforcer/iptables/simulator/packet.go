package simulator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// Log is a packet's way to listeners.
type Log struct {
	// Group is the NFLOG group.
	Group  uint16
	Prefix string
}

// Packet is what rules can see of a packet.
type Packet struct {
	Source, Destination netip.Addr
	Protocol            policy.Protocol
	DestinationPort     uint16
	ICMPType, ICMPCode  uint8
	HopLimit            uint8
	// Interface is the one that it came by.
	Interface string
	// Foreign says that the source is no address of the node.
	Foreign bool
	// Established is conntrack's state ESTABLISHED or RELATED, Invalid is INVALID,
	// Untracked is UNTRACKED. None of them is NEW.
	Established, Invalid, Untracked bool
	// Midway says that the packet opens no connection: of TCP it has flags other than
	// SYN alone, of SCTP no INIT chunk.
	Midway bool
	// lookups counts what is compared and looked up.
	lookups *int
}

// Verdict is what became of a packet, and by which rules.
type Verdict struct {
	Accepted bool
	// Logged says what it was handed to listeners as.
	Logged []Log
	// Trace are the rules that matched, as "CHAIN: rule".
	Trace []string
	// Lookups is the number of rules that were compared with the packet, and of lookups in
	// sets: one for each set of a list, and for each length of prefix in it.
	Lookups int
}

// maxDepth is the number of nested jumps that nf_tables allows (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// Judge is the verdict on a packet at a hook: INPUT, FORWARD or OUTPUT.
func (t *Table) Judge(hook string, k Packet) (Verdict, error) {
	if !slices.Contains(hooks, hook) {
		return Verdict{}, fmt.Errorf("no hook %s", hook)
	}
	var v Verdict
	k.lookups = &v.Lookups
	end, err := t.walk(hook, k, &v, 0)
	v.Accepted = end != dropped
	return v, err
}

type end uint8

const (
	returned end = iota
	accepted
	dropped
)

func (t *Table) walk(chain string, k Packet, v *Verdict, depth int) (end, error) {
	if depth > maxDepth {
		return dropped, fmt.Errorf("chains nested too deep at %s", chain)
	}
	for _, r := range t.chains[chain] {
		v.Lookups++
		if slices.ContainsFunc(r.matches, func(m match) bool { return !m(t, k) }) {
			continue
		}
		v.Trace = append(v.Trace, chain+": "+r.text)
		switch r.target {
		case "":
			continue
		case "NFLOG":
			v.Logged = append(v.Logged, r.log)
			continue
		case "ACCEPT":
			return accepted, nil
		case "DROP", "REJECT":
			return dropped, nil
		case "RETURN":
			return returned, nil
		}
		e, err := t.walk(r.target, k, v, depth+1)
		if err != nil || e != returned || !r.jump {
			return e, err
		}
	}
	return returned, nil
}
