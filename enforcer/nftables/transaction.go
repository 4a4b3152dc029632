package nftables

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/knftables"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
)

// transaction is what the kernel is to do to our table at one moment. It can be given to nft, which makes
// the table first, and, as far as it is of the kind that changes make, to the kernel itself, for
// which the table must be there.
type transaction struct {
	commands []command
	// direct says that the kernel may be asked without nft.
	direct bool
	// size is about how many elements it has; a rule counts as a few.
	size int
}

// command is one thing to do.
type command interface {
	// writeNft adds the command to a transaction of nft.
	writeNft(tx *knftables.Transaction)
	// encodeTo adds it to a batch; false says that this takes nft.
	encodeTo(b *nfnetlink.Batch) bool
}

// verb is what is done to an object.
type verb uint8

const (
	add verb = iota
	empty
	remove
)

func (v verb) writeObject(tx *knftables.Transaction, o knftables.Object) {
	switch v {
	case add:
		tx.Add(o)
	case empty:
		tx.Flush(o)
	case remove:
		tx.Delete(o)
	}
}

// countElements is how many elements and rules the transaction adds or removes.
func (t *transaction) countElements() int {
	n := 0
	for _, c := range t.commands {
		if some, is := c.(elementsCommand); is {
			n += len(some.keys)
		}
		n++
	}
	return n
}

func (t *transaction) addCommand(c command) { t.commands = append(t.commands, c) }

// writeAll adds everything to a transaction of nft.
func (t *transaction) writeAll(tx *knftables.Transaction) *knftables.Transaction {
	tx.Add(&knftables.Table{})
	for _, c := range t.commands {
		c.writeNft(tx)
	}
	return tx
}

// tableCommand makes our table or deletes it.
type tableCommand struct{ verb }

func (c tableCommand) writeNft(tx *knftables.Transaction) { c.writeObject(tx, &knftables.Table{}) }

// chainCommand makes a chain that is not there, empties or deletes it.
type chainCommand struct {
	verb
	name, hook string
}

func (c chainCommand) writeNft(tx *knftables.Transaction) {
	chain := &knftables.Chain{Name: c.name}
	if c.verb == add && c.hook != "" {
		chain.Type = knftables.PtrTo(knftables.FilterType)
		chain.Hook = knftables.PtrTo(knftables.BaseChainHook(c.hook))
		chain.Priority = knftables.PtrTo(knftables.BaseChainPriority(strconv.Itoa(Chain{Hook: c.hook}.Priority())))
		chain.Policy = knftables.PtrTo(knftables.AcceptPolicy)
	}
	c.writeObject(tx, chain)
}

// ruleCommand adds a rule at the end of a chain.
type ruleCommand struct {
	chain string
	rule  Rule
}

func (c ruleCommand) writeNft(tx *knftables.Transaction) {
	rule := &knftables.Rule{Chain: c.chain, Rule: c.rule.Text}
	if c.rule.Comment != "" {
		rule.Comment = &c.rule.Comment
	}
	tx.Add(rule)
}

// setCommand makes or deletes a set or a map, without elements.
type setCommand struct {
	verb
	name string
	kind Set
}

func (c setCommand) writeNft(tx *knftables.Transaction) {
	if c.kind.Map {
		out := &knftables.Map{Name: c.name, Type: c.kind.Type + " : verdict"}
		if c.kind.Interval {
			out.Flags = []knftables.SetFlag{knftables.IntervalFlag}
		}
		c.writeObject(tx, out)
		return
	}
	out := &knftables.Set{Name: c.name, Type: c.kind.Type}
	if c.kind.Interval {
		out.Flags = []knftables.SetFlag{knftables.IntervalFlag}
	}
	c.writeObject(tx, out)
}

// elementsCommand adds or removes some elements of a set or a map.
type elementsCommand struct {
	verb
	set  string
	kind Set
	keys []string
	in   map[string]Element
	// all says that the set is new and has no others.
	all bool
}

func (c elementsCommand) writeNft(tx *knftables.Transaction) {
	for _, k := range c.keys {
		e := c.in[k]
		out := &knftables.Element{Set: c.set, Key: strings.Split(k, " . ")}
		if c.kind.Map {
			out.Set, out.Map, out.Value = "", c.set, []string{e.Verdict}
		}
		if e.Comment != "" {
			out.Comment = &e.Comment
		}
		c.writeObject(tx, out)
	}
}

func (t *transaction) createSet(name string, s Set) { t.addCommand(setCommand{add, name, s}) }
func (t *transaction) deleteSet(name string, s Set) { t.addCommand(setCommand{remove, name, s}) }

// addAllElements adds all elements of a set that is new.
func (t *transaction) addAllElements(name string, s Set) {
	t.changeElements(elementsCommand{add, name, s, slices.Sorted(maps.Keys(s.Elements)), s.Elements, true})
}

// changeElements adds or removes elements, if there are any.
func (t *transaction) changeElements(c elementsCommand) {
	if len(c.keys) > 0 {
		t.size += len(c.keys)
		t.addCommand(c)
	}
}

func (t *transaction) fillChain(name string, c Chain) {
	for _, r := range c.Rules {
		t.addCommand(ruleCommand{name, r})
	}
}
