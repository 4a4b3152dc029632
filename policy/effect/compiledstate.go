package effect

import (
	"cmp"
	"context"
	"iter"
	"net/netip"
	"slices"
	"strconv"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// compiledState is the program of one state, indexed by addresses and classes.
type compiledState struct {
	program *policy.Program
	sets    []policy.SetID // sorted
	// classes are the classes of a subject in each direction. There is none if it does not exist in this state.
	classes        map[*representative][2]*policy.Class
	equivalenceIDs map[netip.Addr]int
	memberKeys     numbering[string]
	// addressSets are the sets of single addresses that contain an address. Networks and excepts number the other
	// sets by network. Memberships caches all sets of an address.
	addressSets       map[netip.Addr][]byte
	networks, excepts prefixIndex
	memberships       map[netip.Addr][]byte
	classViews        map[*policy.Class]*classView
}

// classView indexes a class by the sets that it refers to.
type classView struct {
	sets  map[int]bool
	known numbering[string]
	// rules are those that name a set as peers, by the number of the set. AnyPeer are those about all peers.
	rules   map[int][]rulePlace
	anyPeer []rulePlace
}

// rulePlace is the position of a rule in its class.
type rulePlace struct{ tier, rule int }

func compareRulePlaces(a, b rulePlace) int {
	return cmp.Or(cmp.Compare(a.tier, b.tier), cmp.Compare(a.rule, b.rule))
}

// stateCompiler compiles policies for the representatives of one state.
type stateCompiler struct {
	*compile.Cluster
	representatives []*representative
}

// newStateCompilers returns the compilers of both states, which are one if only policies change.
func newStateCompilers(snapshots [2]*compile.Snapshot, model *podModel, members []*representative) [2]*stateCompiler {
	first := newStateCompiler(stateBefore, snapshots[stateBefore], model, members)
	if onlyPolicies(snapshots[stateBefore], snapshots[stateAfter]) {
		return [2]*stateCompiler{first, first}
	}
	return [2]*stateCompiler{first, newStateCompiler(stateAfter, snapshots[stateAfter], model, members)}
}

func newStateCompiler(m clusterState, s *compile.Snapshot, model *podModel, members []*representative) *stateCompiler {
	reduced := *s
	reduced.Pods, reduced.Namespaces = nil, nil
	for _, n := range model.byName {
		reduced.Namespaces = append(reduced.Namespaces, &compile.Namespace{Name: n.name, Labels: n.labels[m]})
	}
	for i, member := range members {
		if member.kinds[m] != nil {
			reduced.Pods = append(reduced.Pods, member.syntheticPod(m, strconv.Itoa(i)))
		}
	}
	return &stateCompiler{compile.NewCluster(&reduced, ""), members}
}

// compileState compiles policies for the representatives. It returns the error of the context if that ends.
func (c *stateCompiler) compileState(ctx context.Context, policies iter.Seq[*terms]) (*compiledState, error) {
	var read []*compile.Policy
	for t := range policies {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		read = append(read, t.compiled())
	}
	program, err := c.Compile(ctx, read)
	if err != nil {
		return nil, err
	}
	out := &compiledState{program: program, classes: map[*representative][2]*policy.Class{}, equivalenceIDs: map[netip.Addr]int{}, memberKeys: newNumbering[string](),
		addressSets: map[netip.Addr][]byte{}, memberships: map[netip.Addr][]byte{}, classViews: map[*policy.Class]*classView{}}
	for id := range program.Sets {
		out.sets = append(out.sets, id)
	}
	slices.Sort(out.sets)
	out.indexSets()
	for _, e := range program.Endpoints {
		i, _ := strconv.Atoi(e.Name) // named by newStateCompiler
		out.classes[c.representatives[i]] = [2]*policy.Class{program.Classes[0][e.Class[0]], program.Classes[1][e.Class[1]]}
	}
	return out, nil
}

// indexSets indexes the sets by their addresses and networks.
func (s *compiledState) indexSets() {
	for i, id := range s.sets {
		set := s.program.Sets[id]
		if set.Kind == policy.Networks {
			for _, e := range set.Elements {
				if e.Except {
					s.excepts.addPrefix(e.Prefix, i)
				} else {
					s.networks.addPrefix(e.Prefix, i)
				}
			}
			continue
		}
		for _, e := range set.Elements {
			a := e.Prefix.Addr()
			s.addressSets[a] = append(s.addressSets[a], byte(i>>16), byte(i>>8), byte(i), byte(e.Protocol), byte(e.Port>>8), byte(e.Port))
		}
	}
}

// equivalenceID returns the same number for addresses that no rule of the program can tell apart: they are in the
// same sets.
func (s *compiledState) equivalenceID(a netip.Addr) int {
	if m, ok := s.equivalenceIDs[a]; ok {
		return m
	}
	s.equivalenceIDs[a] = s.memberKeys.numberOf(string(s.setMemberships(a)))
	return s.equivalenceIDs[a]
}

// membershipSize is the length of a membership: three bytes for the number of the set, one for the protocol and two
// for the port.
const membershipSize = 6

// inAnySet reports whether a set contains an address, at less cost than setMemberships.
func (s *compiledState) inAnySet(a netip.Addr) bool {
	return len(s.addressSets[a]) > 0 || len(s.networks.setsContaining(a)) > 0
}

// setMemberships returns the sets that contain an address.
func (s *compiledState) setMemberships(a netip.Addr) []byte {
	if b, ok := s.memberships[a]; ok {
		return b
	}
	b := slices.Clip(s.addressSets[a])
	excepted := s.excepts.setsContaining(a)
	for _, i := range s.networks.setsContaining(a) {
		if _, out := slices.BinarySearch(excepted, i); out {
			continue
		}
		b = append(b, byte(i>>16), byte(i>>8), byte(i), 0, 0, 0)
	}
	s.memberships[a] = b
	return b
}
