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

// maxDepth is the number of nested jumps that nf_tables allows (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// Judge is the verdict on a packet at a hook: input, forward or output.
func (t *Table) Judge(hook string, k Packet) (Verdict, error) { return t.JudgeDuring(t, -1, hook, k) }

// JudgeDuring is the verdict on a packet that came before a transaction which
// brought the table to another one, when the transaction took effect after a number of the
// packet's lookups. A packet goes by the rules that there were when it came, and
// sees each set as it is when it looks into it. A negative number means never.
func (t *Table) JudgeDuring(after *Table, lookupsBefore int, hook string, k Packet) (Verdict, error) {
	if !slices.Contains([]string{"input", "forward", "output"}, hook) {
		return Verdict{}, fmt.Errorf("no hook %s", hook)
	}
	w := &walker{table: t, lookups: lookups{before: t, after: after, left: lookupsBefore}, packet: k}
	end := returned
	for _, name := range t.Chains() {
		if t.chains[name].hook != hook || end == dropped {
			continue
		}
		var err error
		if end, err = w.walkChain(name, 0); err != nil {
			return Verdict{}, err
		}
	}
	w.verdict.Accepted, w.verdict.Lookups = end != dropped, w.lookups.count
	return w.verdict, nil
}

// lookups are those into named sets and maps.
type lookups struct {
	before, after *Table
	// left are those until the tables change.
	left, count int
}

func (l *lookups) findVerdict(name string, key []string, k Packet) (*verdict, bool) {
	values, ok := readFields(key, k)
	if !ok {
		return nil, false
	}
	s := l.before.sets[name]
	if l.left == 0 {
		if next := l.after.sets[name]; next != nil {
			s = next
		}
	} else {
		l.left--
	}
	l.count++
	return s.findVerdict(values)
}

type end uint8

const (
	returned end = iota
	accepted
	dropped
)

type walker struct {
	table   *Table
	lookups lookups
	packet  Packet
	verdict Verdict
}

func (w *walker) walkChain(name string, depth int) (end, error) {
	if depth > maxDepth {
		return dropped, fmt.Errorf("chains nested too deep at %s", name)
	}
	c := w.table.chains[name]
	if c == nil { // one that came with the transaction: to this packet it has no rules
		return returned, nil
	}
	for _, r := range c.rules {
		w.verdict.Rules++
		v := w.ruleVerdict(r)
		if v != nil && v.action == "log" {
			w.verdict.Logged = append(w.verdict.Logged, r.log)
			continue
		}
		if v == nil {
			continue
		}
		w.verdict.Trace = append(w.verdict.Trace, name+": "+r.text)
		switch v.action {
		case "accept":
			return accepted, nil
		case "drop", "reject":
			return dropped, nil
		case "return":
			return returned, nil
		}
		e, err := w.walkChain(v.target, depth+1)
		if err != nil || e != returned || v.action == "goto" {
			return e, err
		}
	}
	return returned, nil
}

// ruleVerdict is the verdict of a rule on the packet, or nil.
func (w *walker) ruleVerdict(r rule) *verdict {
	for _, m := range r.matches {
		if !m(&w.lookups, w.packet) {
			return nil
		}
	}
	if r.vmap == nil {
		return r.verdict
	}
	v, _ := w.lookups.findVerdict(r.sets[len(r.sets)-1], r.vmap, w.packet)
	return v
}
