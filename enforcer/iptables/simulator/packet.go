package simulator

import (
	"fmt"
	"slices"

	"github.com/tierwall/tierwall/enforcer/internal/packet"
)

// The packets and verdicts of both simulators.
type (
	// Packet is what rules can see of a packet.
	Packet = packet.Packet
	// Verdict is what rules do with a packet.
	Verdict = packet.Verdict
	// Log is how a listener receives a packet.
	Log = packet.Log
)

// countedPacket is a packet whose lookups in sets are counted.
type countedPacket struct {
	Packet
	lookups *int
}

// maxDepth is the number of nested jumps that nf_tables allows (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// Judge is the verdict on a packet at a hook: INPUT, FORWARD or OUTPUT.
func (t *Table) Judge(hook string, k Packet) (Verdict, error) {
	if !slices.Contains(hooks, hook) {
		return Verdict{}, fmt.Errorf("no hook %s", hook)
	}
	var v Verdict
	end, err := t.walk(hook, countedPacket{k, &v.Lookups}, &v, 0)
	v.Accepted = end != dropped
	return v, err
}

type end uint8

const (
	returned end = iota
	accepted
	dropped
)

func (t *Table) walk(chain string, k countedPacket, v *Verdict, depth int) (end, error) {
	if depth > maxDepth {
		return dropped, fmt.Errorf("chains nested too deep at %s", chain)
	}
	for _, r := range t.chains[chain] {
		v.Rules++
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
