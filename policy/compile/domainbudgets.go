package compile

import "github.com/tierwall/tierwall/policy"

// budgets is what the NetworkPolicies of a domain come to, while somebody of it is here.
type budgets struct {
	sets      int             // as namespaceSets counts them
	classSize int             // of the classes here
	over      *policy.Problem // of the namespace
	overNode  *policy.Problem // of the node
}

func (b *budgets) areOver() bool { return b.over != nil || b.overNode != nil }

func (b *budgets) problem() *policy.Problem {
	if b.over != nil {
		return b.over
	}
	return b.overNode
}

// updateBudgets reads the policies of the domains that changed, as far as these are within their budgets. Of a
// domain over its budget no policy is kept as it was read.
func (c *commit) updateBudgets() {
	for d, isNew := range c.written {
		if d.inhabited == 0 {
			continue
		}
		sets, over := c.readPolicies(d, isNew)
		if over != nil {
			for _, s := range d.policies {
				c.putBack(s)
			}
			sets = 0
		}
		c.unusualSets += unusualSets(sets) - unusualSets(d.budgets.sets)
		d.budgets.sets = sets
		c.setOver(d, over, d.budgets.overNode)
	}
}

// readPolicies reads what is not read yet of the domain's policies, and reports whether they are over a budget.
func (c *commit) readPolicies(d *domain, isNew bool) (sets int, over *policy.Problem) {
	if over = namespaceSizeProblem(d.name, len(d.policies), d.written); over != nil {
		return 0, over
	}
	read := make([]*networkPolicy, 0, len(d.policies))
	for _, s := range d.policies {
		if s.read == nil {
			if c.take(s); !isNew {
				c.reclassify(s.read.selection())
			}
		}
		read = append(read, s.read)
	}
	sets = namespaceSets(c.node, read)
	return sets, namespaceSetsProblem(d.name, sets)
}

// setOver notes which budgets the domain exceeds. Its pods get other classes where that closes or opens it, and where its
// policies are no longer read, or are read again.
func (c *commit) setOver(d *domain, over, overNode *policy.Problem) (changed bool) {
	wasOver, wasRead := d.budgets.areOver(), d.budgets.over == nil
	d.budgets.over, d.budgets.overNode = over, overNode
	isOver := d.budgets.areOver()
	if delete(c.over, d); isOver {
		c.over[d] = struct{}{}
	}
	if isRead := over == nil; wasOver == isOver && wasRead == isRead {
		return false
	}
	for p := range d.allProfiles() {
		if len(p.here) > 0 {
			c.profiles[p] = true
		}
	}
	return true
}

// forgetBudgets forgets what the domain comes to, as nobody of it is here any more.
func (c *commit) forgetBudgets(d *domain) {
	c.unusualSets -= unusualSets(d.budgets.sets)
	d.budgets = budgets{classSize: d.budgets.classSize}
	delete(c.over, d)
}

// countCost counts a class that is used from now on, or with a negative cost no longer.
func (c *commit) countCost(b *builtClass, cost int) {
	if b.domain != nil {
		b.domain.budgets.classSize += cost
		c.classSize += cost
	}
}

// updateNodeBudget closes the domains that the node has no room for, and opens those that it has room for again.
func (c *commit) updateNodeBudget() (changed bool) {
	if c.node == "" || c.classSize <= limits.nodeSize && c.unusualSets <= limits.nodeSets && len(c.over) == 0 {
		return false
	}
	here := map[*domain]bool{}
	var costs []nodeCost
	for p := range c.inhabited {
		if d := p.domain; !here[d] {
			here[d] = true
			if d.budgets.over == nil {
				costs = append(costs, nodeCost{d.name, d.budgets.classSize, unusualSets(d.budgets.sets)})
			}
		}
	}
	found := nodeProblems(costs)
	for d := range here {
		changed = c.setOver(d, d.budgets.over, found[d.name]) || changed
	}
	return changed
}
