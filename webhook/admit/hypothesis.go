package admit

import (
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/webhook/peer"
)

// maxHypotheses bounds the states that are combined from one list of uncertain objects.
const maxHypotheses = 16

// hypothesis is a state that the cluster may be in when a change happens.
type hypothesis struct {
	*compile.Snapshot
	// assumption names what differs from the snapshot; it is empty for the snapshot itself.
	assumption string
}

// variant is a possible value of an object. A nil value means that the object is absent.
type variant struct {
	value any
	set   func(*compile.Snapshot) *compile.Snapshot
	// text describes the assumption.
	text string
	// isCurrent is true if the snapshot has this value.
	isCurrent bool
}

// uncertainObject is an object with several possible values: it is terminating, or changes of it are in flight.
type uncertainObject struct {
	object, namespace string
	isNetworkPolicy   bool
	same              func(a, b any) bool
	// variants begin with absence, if that is possible.
	variants []variant
}

func (u *uncertainObject) addVariant(v variant) {
	if slices.ContainsFunc(u.variants, func(o variant) bool { return u.same(o.value, v.value) }) {
		return
	}
	if v.value == nil {
		u.variants = slices.Insert(u.variants, 0, v)
		return
	}
	u.variants = append(u.variants, v)
}

// mattersInAny reports whether a change can open or close anything in any of the states.
func (c change) mattersInAny(states []hypothesis) bool {
	return slices.ContainsFunc(states, func(s hypothesis) bool { return c.matters(s.Snapshot) })
}

// possibleStates returns the states that a change must be safe in; the first is the snapshot. Terminating
// objects may be present or gone, and changes in flight may happen or not.
//
// Changes of other senders are combined in further states. A bounded number of states thus always
// covers the sender's own changes, however many changes strangers send.
func possibleStates(now *compile.Snapshot, inflight []*inflightChange, sender peer.Identity, c change) []hypothesis {
	own := make([]*inflightChange, 0, len(inflight))
	for _, i := range inflight {
		if i.sender == sender {
			own = append(own, i)
		}
	}
	objects := relevantUncertain(now, own, c)
	states := append([]hypothesis{{Snapshot: now}}, combineVariants(now, objects, c)...)
	if len(own) == len(inflight) {
		return states
	}
	if all := relevantUncertain(now, inflight, c); countVariants(all) > countVariants(objects) {
		states = append(states, combineVariants(now, all, c)...)
	}
	return states
}

func countVariants(objects []*uncertainObject) int {
	n := 0
	for _, u := range objects {
		n += len(u.variants)
	}
	return n
}

// combineVariants returns the states, other than the snapshot, that the uncertain objects may be in.
func combineVariants(now *compile.Snapshot, objects []*uncertainObject, c change) []hypothesis {
	objects = joinOtherNamespaces(objects, c)
	counts := make([]int, len(objects))
	for i, u := range objects {
		counts[i] = len(u.variants)
	}
	var out []hypothesis
	for _, choice := range chooseVariants(counts, maxHypotheses) {
		state, assumed := now, []string(nil)
		for i, n := range choice {
			if v := objects[i].variants[n]; !v.isCurrent {
				state = v.set(state)
				assumed = append(assumed, v.text)
			}
		}
		if len(assumed) > 0 {
			out = append(out, hypothesis{state, "if " + joinFirst(assumed)})
		}
	}
	return out
}

// relevantUncertain returns the uncertain objects that a change can depend on. A change of a NetworkPolicy does
// not depend on NetworkPolicies of other namespaces, since each selects pods of its own namespace.
func relevantUncertain(now *compile.Snapshot, inflight []*inflightChange, c change) []*uncertainObject {
	var out []*uncertainObject
	byObject := map[string]*uncertainObject{}
	// find returns the uncertain object of a change, or nil if c does not depend on it.
	find := func(o change) *uncertainObject {
		if o.object == c.object || c.isNetworkPolicy && o.isNetworkPolicy && o.namespace != c.namespace {
			return nil
		}
		u := byObject[o.object]
		if u == nil {
			u = &uncertainObject{object: o.object, namespace: o.namespace, isNetworkPolicy: o.isNetworkPolicy, same: o.same}
			u.addVariant(o.current(now))
			byObject[o.object] = u
			out = append(out, u)
		}
		return u
	}
	before, after := c.applyTo(now)
	for _, i := range inflight {
		if !i.matters(before) && !i.matters(after) {
			continue
		}
		if u := find(i.change); u != nil {
			for _, v := range i.variants[firstCertainVariant(i.change):] {
				u.addVariant(v)
			}
		}
	}
	for _, t := range allPendingDeletions(now) {
		if u := find(t); u != nil {
			u.addVariant(t.variants[1])
		}
	}
	return slices.DeleteFunc(out, func(u *uncertainObject) bool { return len(u.variants) < 2 })
}

// firstCertainVariant returns the index of the first variant that a change is evidence of. A CREATE is no evidence of
// absence, since the API server calls webhooks before it checks whether the name is taken.
func firstCertainVariant(c change) int {
	if c.variants[0].value == nil {
		return 1
	}
	return 0
}

// allPendingDeletions returns the deletions of all terminating objects.
func allPendingDeletions(s *compile.Snapshot) []change {
	return slices.Concat(networkPolicies.pendingDeletions(s), clusterNetworkPolicies.pendingDeletions(s), tierRoles.pendingDeletions(s))
}

// joinOtherNamespaces merges the NetworkPolicies of other namespaces into one uncertain object: all are absent at
// once, or all have their last variant. Each selects pods of its own namespace, so many namespaces fit in one state.
func joinOtherNamespaces(objects []*uncertainObject, c change) []*uncertainObject {
	var out, others []*uncertainObject
	for _, u := range objects {
		if u.isNetworkPolicy && (u.namespace != c.namespace || c.namespace == "") {
			others = append(others, u)
		} else {
			out = append(out, u)
		}
	}
	if len(others) < 2 {
		return append(out, others...)
	}
	joined := &uncertainObject{object: "NetworkPolicies of other namespaces"}
	for _, pick := range []func(u *uncertainObject) variant{
		func(u *uncertainObject) variant { return u.variants[0] },
		func(u *uncertainObject) variant { return u.variants[len(u.variants)-1] },
	} {
		var picked []variant
		for _, u := range others {
			if v := pick(u); !v.isCurrent {
				picked = append(picked, v)
			}
		}
		joined.variants = append(joined.variants, joinVariants(picked))
	}
	return append(out, joined)
}

func joinVariants(all []variant) variant {
	var texts []string
	for _, v := range all {
		texts = append(texts, v.text)
	}
	return variant{isCurrent: len(all) == 0, text: strings.Join(texts[:min(len(texts), 3)], ", "), set: func(s *compile.Snapshot) *compile.Snapshot {
		for _, v := range all {
			s = v.set(s)
		}
		return s
	}}
}

// chooseVariants returns the states as lists of variant indexes, one index for each object. It returns all
// combinations if there are at most limit. Otherwise see chooseVariantsSparsely.
func chooseVariants(counts []int, limit int) [][]int {
	if len(counts) == 0 {
		return nil
	}
	total := 1
	for _, n := range counts {
		if total *= n; total > limit {
			return chooseVariantsSparsely(counts, limit)
		}
	}
	out := make([][]int, 0, total)
	for n := range total {
		choice := make([]int, len(counts))
		for i, count := range counts {
			choice[i] = n % count
			n /= count
		}
		out = append(out, choice)
	}
	return out
}

// chooseVariantsSparsely returns the state of all first variants, that of all last variants, and each other
// variant with all other objects at their first. Beyond the limit, several objects change in one state.
func chooseVariantsSparsely(counts []int, limit int) [][]int {
	first, last := make([]int, len(counts)), make([]int, len(counts))
	for i, n := range counts {
		last[i] = n - 1
	}
	out := [][]int{first, last}
	groups := limit - len(out)
	item := 0
	for i, n := range counts {
		for v := 1; v < n; v++ {
			if item < groups {
				out = append(out, make([]int, len(counts)))
			}
			out[2+item%groups][i] = v
			item++
		}
	}
	return out
}
