package admit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy/compile"
)

// maxHypotheses bounds the states of the cluster that one change is reviewed in.
const maxHypotheses = 16

// hypothesis is a state that the cluster may be in when a change happens.
type hypothesis struct {
	*compile.Snapshot
	// assumption names what differs from the snapshot; empty for the snapshot itself.
	assumption string
}

// variant is an object as it may be. A nil value is absence.
type variant struct {
	value any
	set   func(*compile.Snapshot) *compile.Snapshot
	// text says what is assumed.
	text string
	// isCurrent is true of the object as the snapshot shows it.
	isCurrent bool
}

// uncertainObject is an object that may be in several ways: it is terminating, or changes of it are in flight.
type uncertainObject struct {
	object, namespace string
	isNetworkPolicy   bool
	same              func(a, b any) bool
	// variants begin with absence, where that is possible.
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

// possibleStates returns the states that a change has to be safe in. The snapshot is the
// first. Terminating objects may be there or gone, and changes in flight may happen or not.
func possibleStates(now *compile.Snapshot, inflight []*inflightChange, c change) []hypothesis {
	out := []hypothesis{{Snapshot: now}}
	objects := joinOtherNamespaces(relevantUncertain(now, inflight, c), c)
	counts := make([]int, len(objects))
	for i, u := range objects {
		counts[i] = len(u.variants)
	}
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

// relevantUncertain returns the uncertain objects that a change can depend on. A NetworkPolicy
// decides for the pods of its namespace alone, so that others decide nothing about its change.
func relevantUncertain(now *compile.Snapshot, inflight []*inflightChange, c change) []*uncertainObject {
	var out []*uncertainObject
	byObject := map[string]*uncertainObject{}
	of := func(object, namespace string, isNetworkPolicy bool, same func(a, b any) bool, current variant) *uncertainObject {
		if object == c.object || c.isNetworkPolicy && isNetworkPolicy && namespace != c.namespace {
			return nil
		}
		u := byObject[object]
		if u == nil {
			u = &uncertainObject{object: object, namespace: namespace, isNetworkPolicy: isNetworkPolicy, same: same}
			u.addVariant(current)
			byObject[object] = u
			out = append(out, u)
		}
		return u
	}
	before, after := c.applyTo(now)
	for _, i := range inflight {
		if !i.matters(before) && !i.matters(after) {
			continue
		}
		if u := of(i.object, i.namespace, i.isNetworkPolicy, i.same, i.current(now)); u != nil {
			for _, v := range i.variants[firstCertainVariant(i.change):] {
				u.addVariant(v)
			}
		}
	}
	for _, t := range allPendingDeletions(now) {
		if u := of(t.object, t.namespace, t.isNetworkPolicy, t.same, t.current(now)); u != nil {
			u.addVariant(t.variants[1])
		}
	}
	return slices.DeleteFunc(out, func(u *uncertainObject) bool { return len(u.variants) < 2 })
}

// firstCertainVariant is the first variant that a change is evidence of: the API server reviews a CREATE before it looks whether
// the name is taken.
func firstCertainVariant(c change) int {
	if c.variants[0].value == nil {
		return 1
	}
	return 0
}

// allPendingDeletions returns the deletions of the objects that are being deleted.
func allPendingDeletions(s *compile.Snapshot) []change {
	return slices.Concat(networkPolicies.pendingDeletions(s), clusterNetworkPolicies.pendingDeletions(s), tierRoles.pendingDeletions(s))
}

// joinOtherNamespaces makes one object of the NetworkPolicies of other namespaces, all of which are absent
// at once, or as they are last. Each decides for the pods of its own namespace alone, so the states
// of many namespaces are reviewed at one time.
func joinOtherNamespaces(objects []*uncertainObject, c change) []*uncertainObject {
	own := func(u *uncertainObject) bool {
		return !u.isNetworkPolicy || u.namespace == c.namespace && c.namespace != ""
	}
	var out, foreign []*uncertainObject
	for _, u := range objects {
		if own(u) {
			out = append(out, u)
		} else {
			foreign = append(foreign, u)
		}
	}
	if len(foreign) < 2 {
		return append(out, foreign...)
	}
	joined := &uncertainObject{object: "NetworkPolicies of other namespaces"}
	for _, pick := range []func(u *uncertainObject) variant{
		func(u *uncertainObject) variant { return u.variants[0] },
		func(u *uncertainObject) variant { return u.variants[len(u.variants)-1] },
	} {
		var picked []variant
		for _, u := range foreign {
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

// chooseVariants chooses a variant of each object, by number, for each state. All combinations are taken
// where they are few. Otherwise: all first, all last, and each variant with all others first; where these
// are too many as well, several objects are chosen from at once.
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

func (k objectKind[T]) describeAssumption(key fmt.Stringer, value *T, isTerminating bool) string {
	switch {
	case value == nil && isTerminating:
		return fmt.Sprintf("%s %s, which is being deleted, is gone", k.kind, key)
	case value == nil:
		return fmt.Sprintf("%s %s is not there, as a change in flight may have it", k.kind, key)
	default:
		return fmt.Sprintf("%s %s is as a change in flight has it", k.kind, key)
	}
}
