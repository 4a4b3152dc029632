package compile

import (
	"github.com/tierwall/tierwall/internal/contenthash"
	"github.com/tierwall/tierwall/policy"
)

// classes are the classes of one direction that somebody has, each of them once.
type classes struct {
	builder classBuilder
	built   map[string]*builtClass
	used    contenthash.Table[policy.ClassID, *usedClass]
}

// builtClass is a class under the key of what it follows from. Profiles use it.
type builtClass struct {
	class *usedClass
	key   string
	uses  int
	// problem is set where the policies are over the budget of a class.
	problem *policy.Problem
	domain  *domain // of the NetworkPolicies; nil where there are none
	cost    int     // on the node
}

// usedClass is a class under its content. Built classes that come out equal use it.
type usedClass struct {
	*policy.Class
	sets  []*usedSet
	uses  int
	fresh bool // was not there before this commit
}

func newClasses(b classBuilder) classes {
	return classes{builder: b, built: map[string]*builtClass{}, used: contenthash.NewTable[policy.ClassID, *usedClass]()}
}

// acquire is the class of a profile's subject, one use of it more.
func (c *commit) acquire(d policy.Direction, of subject, s selecting) *builtClass {
	classes := &c.classes[d]
	key := classes.builder.key(of, s)
	b := classes.built[key]
	if b == nil {
		b = &builtClass{key: key, problem: classProblem(d, s.namespaced), cost: classCost(d, s.namespaced)}
		b.class = c.use(d, of, s, b.problem != nil)
		if len(s.namespaced) > 0 {
			b.domain = c.domain(of.namespace)
		}
		classes.built[key] = b
	}
	if b.uses++; b.uses == 1 {
		c.countCost(b, b.cost)
	}
	return b
}

func (c *commit) use(d policy.Direction, of subject, s selecting, over bool) *usedClass {
	classes := &c.classes[d]
	class, sets := classes.builder.build(of, s, over, c)
	hash := class.ID
	u, id, found := classes.used.Find(hash, func(u *usedClass) bool { return u.Equal(class) })
	if !found {
		class.ID = id
		u = &usedClass{Class: class, fresh: true}
		for id := range sets {
			u.sets = append(u.sets, c.useSet(id))
		}
		classes.used.Put(hash, id, u)
		c.freshClasses[d] = append(c.freshClasses[d], u)
	}
	u.uses++
	return u
}

// release is one use less of the classes, if there are any.
func (c *commit) release(classes [2]*builtClass) {
	for d, b := range classes {
		if b == nil {
			continue
		}
		if b.uses--; b.uses == 0 {
			c.countCost(b, -b.cost)
			c.idleClasses[d] = append(c.idleClasses[d], b)
		}
	}
}

// sweepClasses forgets the classes that nobody uses any more, and tells which came and went.
func (c *commit) sweepClasses(d policy.Direction) {
	classes := &c.classes[d]
	for _, b := range c.idleClasses[d] {
		if b.uses > 0 || classes.built[b.key] != b {
			continue
		}
		delete(classes.built, b.key)
		u := b.class
		if u.uses--; u.uses > 0 {
			continue
		}
		classes.used.Remove(u.ID)
		for _, s := range u.sets {
			c.releaseSet(s)
		}
		if !u.fresh {
			c.change.ClassesGone[d] = append(c.change.ClassesGone[d], u.ID)
		}
	}
	for _, u := range c.freshClasses[d] {
		if u.fresh = false; u.uses > 0 {
			c.change.Classes[d] = append(c.change.Classes[d], u.Class)
		}
	}
}
