package compile

import (
	"hash/maphash"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy"
)

// Engine keeps a program up to date while objects change. It gives at any time what
// Compile gives of the same objects, in whatever order and portions they came, for a work in
// proportion to what a change touches. It is not safe for concurrent use.
type Engine struct {
	node     string
	defaults policy.Defaults

	// The cluster: who is there, found by whatever selectors ask for.
	networks     *NodeNetworks
	onNode       map[string][]*member // by the node's name
	domains      map[string]*domain
	domainLabels labelIndex[*domain]
	profiles     labelIndex[*profile]
	named        map[portName]map[*profile]struct{}
	claims       claims
	left         []*domain                // that were inhabited, the longest left first
	partial      map[*member][]netip.Addr // what belongs to those that do not own all that they claim
	foreign      map[*member][]netip.Addr // what of that is not Foreign, where something is
	roles        bindings
	// disputed are the pods with addresses to report.
	disputed        map[*member]struct{}
	disputesChanged bool // by the last commit

	// The policies, found by whom they select.
	policies         uint64 // how many were read ever
	clusterPolicies  map[types.NamespacedName]*clusterPolicy
	bySubject        selections[*networkPolicy]
	byClusterSubject selections[*clusterPolicy]
	problems         map[policy.RuleID][]policy.Problem

	// What is counted for budgets.
	over        map[*domain]struct{} // whose NetworkPolicies are over a budget of their namespace or the node
	classSize   int                  // of all classes, in entries of NetworkPolicies
	unusualSets int                  // of all inhabited domains

	// The program.
	classes   [2]classes
	sets      sets
	frame     *policy.NodeConfig    // nil before the first commit
	inhabited map[*profile]struct{} // those that somebody is here of, and so have classes

	throttle Throttle              // nil allows everything
	deferred map[*profile]struct{} // those with classes that the throttle does not allow yet

	seed maphash.Seed // of the hashes of profiles
}

// NewEngine makes an engine without objects, for the endpoints of one node, or of all nodes when
// the name is empty.
func NewEngine(node string, defaults policy.Defaults) *Engine {
	e := &Engine{
		node: node, defaults: defaults, seed: maphash.MakeSeed(),
		networks: NewNodeNetworks(nil), onNode: map[string][]*member{}, domains: map[string]*domain{},
		named: map[portName]map[*profile]struct{}{}, claims: newClaims(), partial: map[*member][]netip.Addr{}, foreign: map[*member][]netip.Addr{}, disputed: map[*member]struct{}{}, roles: newBindings(),
		clusterPolicies: map[types.NamespacedName]*clusterPolicy{},
		bySubject:       newSelections[*networkPolicy](), byClusterSubject: newSelections[*clusterPolicy](),
		problems: map[policy.RuleID][]policy.Problem{},
		over:     map[*domain]struct{}{},
		sets:     newSets(), inhabited: map[*profile]struct{}{}, deferred: map[*profile]struct{}{},
	}
	e.domainLabels = newLabelIndex(e.allDomains, func(d *domain) labels.Set { return d.labels })
	e.profiles = newLabelIndex(e.allProfiles, func(p *profile) labels.Set { return p.labels })
	for _, d := range policy.Directions {
		e.classes[d] = newClasses(classBuilder{d, defaults})
	}
	return e
}

// Program is the program of the objects as of the last commit. It takes time in proportion to
// the program, and is not changed by later commits.
func (e *Engine) Program() *policy.Program {
	p := &policy.Program{Sets: map[policy.SetID]*policy.Set{}, Unknown: unknown(e.defaults)}
	if e.frame != nil {
		p.Hosts, p.Local = e.frame.Hosts, e.frame.Local
	}
	for profile := range e.inhabited {
		for _, m := range profile.here {
			p.Endpoints = append(p.Endpoints, *m.endpoint)
		}
	}
	policy.SortEndpoints(p.Endpoints)
	for _, d := range policy.Directions {
		p.Classes[d] = map[policy.ClassID]*policy.Class{}
		for id, c := range e.classes[d].used.All() {
			p.Classes[d][id] = c.Class
		}
	}
	for id, s := range e.sets.used.All() {
		p.Sets[id] = s.set(id, e)
	}
	return p
}

// Size is how many endpoints and sets the program has.
func (e *Engine) Size() (endpoints, sets int) {
	for p := range e.inhabited {
		endpoints += len(p.here)
	}
	return endpoints, len(e.sets.used.All())
}

// Problems are those of all policies, as Compile gives them.
func (e *Engine) Problems() []policy.Problem {
	var out, classes []policy.Problem
	for _, found := range e.problems {
		out = append(out, found...)
	}
	for _, d := range policy.Directions {
		for _, b := range e.classes[d].built {
			if b.problem != nil {
				classes = append(classes, *b.problem)
			}
		}
	}
	for d := range e.over {
		classes = append(classes, *d.budgets.problem())
	}
	return joinProblems(out, classes)
}

// selecting are the policies that select the pods of the profile.
func (e *Engine) selecting(p *profile) selecting {
	out := selecting{
		namespaced: e.bySubject.of(p.domain.name, p.namespace, p.labels),
		cluster:    e.byClusterSubject.of(p.domain.name, p.namespace, p.labels),
	}
	slices.SortFunc(out.namespaced, compareNetworkPolicies)
	slices.SortFunc(out.cluster, compareClusterPolicies)
	return out
}

// selected are the profiles that the selection matches.
func (e *Engine) selected(s *podSelection) iter.Seq[*profile] {
	return func(yield func(*profile) bool) {
		if byPods, n, ok := e.profiles.candidates(s.pods); ok && !e.fewerIn(s.namespaces, n) {
			for _, group := range byPods {
				for p := range group {
					if s.namespaces.matches(p.namespace) && s.pods.matches(p.labels) && !yield(p) {
						return
					}
				}
			}
			return
		}
		for d := range e.domainsOf(s.namespaces) {
			for p := range d.allProfiles() {
				if s.pods.matches(p.labels) && !yield(p) {
					return
				}
			}
		}
	}
}

// fewerIn reports whether there are fewer than n profiles in the namespaces, without counting on.
func (e *Engine) fewerIn(namespaces selector, n int) bool {
	if namespaces.everything() {
		return false
	}
	for d := range e.domainsOf(namespaces) {
		if n -= len(d.profiles) + 1; n <= 0 {
			return false
		}
	}
	return true
}

// domainsOf are the domains that the selector matches.
func (e *Engine) domainsOf(s selector) iter.Seq[*domain] {
	if groups, _, ok := e.domainLabels.candidates(s); ok {
		return func(yield func(*domain) bool) {
			for _, group := range groups {
				for d := range group {
					if s.matches(d.labels) && !yield(d) {
						return
					}
				}
			}
		}
	}
	return func(yield func(*domain) bool) {
		for _, d := range e.domains {
			if s.matches(d.labels) && !yield(d) {
				return
			}
		}
	}
}

func (e *Engine) allDomains() iter.Seq[*domain] { return maps.Values(e.domains) }

func (e *Engine) allProfiles() iter.Seq[*profile] {
	return func(yield func(*profile) bool) {
		for _, d := range e.domains {
			for p := range d.allProfiles() {
				if !yield(p) {
					return
				}
			}
		}
	}
}

func (e *Engine) podAddrs(s *podSelection) []netip.Addr {
	var out []netip.Addr
	for p := range e.selected(s) {
		for m := range p.members() {
			out = append(out, e.peerAddrs(m, s.foreign)...)
		}
	}
	return out
}

func (e *Engine) nodeAddrs(s selector) []netip.Addr { return e.networks.selectedNodeAddrs(s) }

func (e *Engine) namedPorts(wanted portName) []policy.Element {
	var out []policy.Element
	for p := range e.named[portName{name: wanted.name, protocol: wanted.protocol}] {
		for _, port := range p.ports {
			if port.Name != wanted.name || port.Protocol != wanted.protocol {
				continue
			}
			for m := range p.members() {
				for _, a := range e.peerAddrs(m, wanted.foreign) {
					out = append(out, port.element(a))
				}
			}
		}
	}
	return out
}

// member is a pod as the engine knows it.
type member struct {
	pod     *Pod
	profile *profile // nil while no address belongs to it
	// endpoint is the pod's in the program.
	endpoint *policy.Endpoint
	at       int32 // in the profile's list
	onNode   int32 // in its node's list
	here     bool  // is the program's to enforce
	partial  bool  // it does not own all addresses that it claims
	foreign  bool  // some of the addresses that it owns are Foreign
	touched  bool  // in this commit
	gone     bool  // was deleted in this commit
}

// addrs are the addresses that belong to the pod.
func (e *Engine) addrs(m *member) []netip.Addr {
	switch {
	case m.profile == nil:
		return nil
	case m.partial:
		return e.partial[m]
	default:
		return claimed(m.pod)
	}
}

// confirmed are the addresses of the pod that are not Foreign.
func (e *Engine) confirmed(m *member) []netip.Addr {
	if m.profile != nil && m.foreign {
		return e.foreign[m]
	}
	return e.addrs(m)
}

// peerAddrs are the addresses of the pod as a peer: Foreign ones only where foreign is true.
func (e *Engine) peerAddrs(m *member, foreign bool) []netip.Addr {
	if foreign {
		return e.addrs(m)
	}
	return e.confirmed(m)
}

// members are all pods of the profile.
func (p *profile) members() iter.Seq[*member] {
	return func(yield func(*member) bool) {
		for _, list := range [...][]*member{p.here, p.elsewhere} {
			for _, m := range list {
				if !yield(m) {
					return
				}
			}
		}
	}
}
