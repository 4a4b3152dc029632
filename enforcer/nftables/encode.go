package nftables

import (
	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
)

// encodeBatch encodes the transaction, which does something, for the kernel; false says that it takes nft.
func (t *transaction) encodeBatch() (*nfnetlink.Batch, bool) {
	b := nfnetlink.NewBatch(tableName)
	for _, c := range t.commands {
		if !c.encodeTo(b) || b.Len() > nfnetlink.MaxBatch {
			return nil, false
		}
	}
	return b, true
}

func (c tableCommand) encodeTo(b *nfnetlink.Batch) bool {
	b.AddTable()
	return c.verb == add
}

func (c chainCommand) encodeTo(b *nfnetlink.Batch) bool {
	switch c.verb {
	case add:
		b.AddChain(c.name)
	case empty:
		b.FlushChain(c.name)
	case remove:
		b.DeleteChain(c.name)
	}
	return c.hook == ""
}

func (c ruleCommand) encodeTo(b *nfnetlink.Batch) bool {
	e, ok := b.NewExpressions(), len(c.rule.terms) > 0
	for _, t := range c.rule.terms {
		ok = ok && t.encodeTerm(e)
	}
	b.AddRule(c.chain, e, c.rule.Comment)
	return ok
}

func (c setCommand) encodeTo(b *nfnetlink.Batch) bool {
	if c.verb == remove {
		b.DeleteSet(c.name)
		return true
	}
	kind, ok := c.kind.kernelKind()
	b.AddSet(c.name, kind)
	return ok
}

func (c elementsCommand) encodeTo(b *nfnetlink.Batch) bool {
	kind, ok := c.kind.kernelKind()
	if !ok {
		return false
	}
	elements := make([]nfnetlink.Element, len(c.keys))
	for i, k := range c.keys {
		elements[i] = nfnetlink.Element{Key: k, Verdict: c.in[k].Verdict, Comment: c.in[k].Comment}
	}
	if c.verb == remove {
		return b.DeleteElements(c.set, kind, elements)
	}
	return b.AddElements(c.set, kind, elements, c.all)
}

// kernelKind returns the set's kind for the kernel. It reports whether its type is known.
func (s Set) kernelKind() (nfnetlink.SetKind, bool) {
	key, ok := nfnetlink.ParseKeyType(s.Type)
	return nfnetlink.SetKind{Key: key, Interval: s.Interval, Map: s.Map}, ok
}
