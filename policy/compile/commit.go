package compile

import (
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
)

// commit is one step of the engine from one state of the objects to the next.
type commit struct {
	*Engine
	change *policy.Change

	nodesChanged bool
	moves        []move
	// profiles are those whose classes may be others now, or with true are.
	profiles map[*profile]bool
	seatsOf  map[*profile][]seat
	// written are the domains whose policies changed or, with true, of which nobody was here before.
	written map[*domain]bool

	changedSets  []*usedSet
	freshSets    []*usedSet
	idleSets     []*usedSet
	freshClasses [2][]*usedClass
	idleClasses  [2][]*builtClass
}

// move is a pod that is not what it was, with what it was.
type move struct {
	*member
	was *profile
	// had and confirmed are the addresses that it had, and those of them that were not Foreign.
	had, confirmed []netip.Addr
}

// Commit takes in the objects that changed, and gives what that changes in the program. The first
// commit's is the change from the program without anything.
func (e *Engine) Commit(u *Update) *policy.Change {
	c := &commit{Engine: e, change: &policy.Change{}, moves: make([]move, 0, len(u.Pods)),
		profiles: map[*profile]bool{}, seatsOf: map[*profile][]seat{}, written: map[*domain]bool{}}
	c.disputesChanged = false
	c.setNodes(u.Nodes)
	c.setNamespaces(u.Namespaces, e.roles.update(u.TierRoles))
	c.setNetworkPolicies(u.NetworkPolicies)
	c.setClusterPolicies(u.ClusterNetworkPolicies)
	c.setPods(u.Pods)
	c.place()
	c.reseat()
	c.settle()
	c.updateBudgets()
	c.retryDeferred()
	c.classify()
	if c.updateNodeBudget() {
		c.classify()
	}
	for _, d := range policy.Directions {
		c.sweepClasses(d)
	}
	c.sweepSets()
	c.setEndpoints()
	c.cleanUp()
	return c.change
}

func equalFrames(a, b *policy.NodeConfig) bool {
	return a.Unknown == b.Unknown && slices.Equal(a.Local, b.Local) && slices.EqualFunc(a.Hosts, b.Hosts, func(a, b policy.Host) bool {
		return a.Name == b.Name && slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.PodCIDRs, b.PodCIDRs)
	})
}

// setNamespaces takes in namespaces that changed, and those whose roles did.
func (c *commit) setNamespaces(changed Objects[Namespace], roles map[string]struct{}) {
	for key, now := range changed {
		d := c.domains[key.Name]
		if d == nil && now == nil {
			continue
		}
		d = c.domain(key.Name)
		d.exists = now != nil
		is := labels.Set{nameLabel: d.name}
		if now != nil {
			is = namespaceLabels(now)
		}
		c.domainLabels.remove(d)
		d.labels = is
		c.domainLabels.add(d)
		c.renew(d)
		c.leaveDomain(d)
	}
	for name := range roles {
		if d := c.domains[name]; d != nil {
			d.roles = c.roles.of(name)
			c.renew(d)
		}
	}
}

// renew moves the pods of the domain to other profiles where labels or roles are others now.
func (c *commit) renew(d *domain) {
	for _, p := range slices.Collect(d.allProfiles()) {
		if p.current() {
			continue
		}
		next := &profile{domain: d, hash: p.hash, account: p.account, written: p.written, ports: p.ports}
		c.forget(p)
		c.enter(next)
		for m := range p.members() {
			c.touch(m)
			m.profile = next
		}
		next.here, next.elsewhere, p.here, p.elsewhere = p.here, p.elsewhere, nil, nil
		c.profiles[p], c.profiles[next] = false, true
	}
}

func (c *commit) setNetworkPolicies(changed Objects[networkingv1.NetworkPolicy]) {
	for key, now := range changed {
		id := policy.RuleID{Kind: NetworkPolicyKind, Namespace: key.Namespace, Name: key.Name}
		d := c.domain(key.Namespace)
		if before := d.policies[key.Name]; before != nil {
			if before.read != nil {
				c.reclassify(before.read.selection())
			}
			c.putBack(before)
			d.written -= before.written
			delete(d.policies, key.Name)
			delete(c.problems, id)
		}
		if now != nil {
			s, problems := shelve(now)
			d.policies[key.Name] = s
			d.written += s.written
			c.setProblems(id, problems)
		}
		if _, noted := c.written[d]; !noted {
			c.written[d] = false
		}
		c.leaveDomain(d)
	}
}

func (c *commit) setClusterPolicies(changed Objects[policyv1alpha2.ClusterNetworkPolicy]) {
	for key, now := range changed {
		id := policy.RuleID{Kind: ClusterNetworkPolicyKind, Name: key.Name}
		if before := c.clusterPolicies[key]; before != nil {
			s := &podSelection{namespaces: before.namespaces, pods: before.pods}
			c.byClusterSubject.remove(before)
			c.reclassify(s)
			delete(c.clusterPolicies, key)
			delete(c.problems, id)
		}
		if now == nil {
			continue
		}
		p, problems := parseClusterNetworkPolicy(now)
		c.policies++
		p.number = c.policies
		s := &podSelection{namespaces: p.namespaces, pods: p.pods}
		c.byClusterSubject.add(s, p)
		c.reclassify(s)
		c.clusterPolicies[key] = p
		c.setProblems(id, problems)
	}
}

func (c *commit) setProblems(of policy.RuleID, problems []policy.Problem) {
	if len(problems) > 0 {
		c.problems[of] = problems
	}
}

// reclassify has the classes of the pods here that are in the selection made anew.
func (c *commit) reclassify(s *podSelection) {
	if name, ok := s.namespaces.name(); ok {
		if d := c.domains[name]; d != nil {
			for p := range d.allProfiles() {
				c.reclassifyProfile(p, s)
			}
		}
		return
	}
	for p := range c.inhabited {
		c.reclassifyProfile(p, s)
	}
}

func (c *commit) reclassifyProfile(p *profile, s *podSelection) {
	if len(p.here) > 0 && s.namespaces.matches(p.namespace) && s.pods.matches(p.labels) {
		c.profiles[p] = true
	}
}

// setPods takes in pods that changed, and what that means for who owns which address.
func (c *commit) setPods(changed Objects[Pod]) {
	for key, now := range changed {
		d := c.domains[key.Namespace]
		if d == nil && now == nil {
			continue
		}
		d = c.domain(key.Namespace)
		m := d.members[key.Name]
		switch {
		case m == nil && now == nil:
			continue
		case m == nil:
			m = &member{}
			d.members[key.Name] = m
		}
		c.setPod(m, now)
	}
}

func (c *commit) setPod(m *member, now *Pod) {
	c.touch(m)
	var before, after []netip.Addr
	if m.pod != nil {
		before = claimed(m.pod)
	}
	if m.gone = now == nil; m.gone {
		c.leaveNode(m)
	} else {
		c.moveToNode(m, now.Node)
		m.pod, after = now, claimed(now)
	}
	for _, a := range before {
		if !slices.Contains(after, a) {
			c.drop(a, m)
		}
	}
	for _, a := range after {
		c.claim(a, m)
	}
}

// touch notes what a pod was, the first time.
func (c *commit) touch(m *member) {
	if !m.touched {
		m.touched = true
		c.moves = append(c.moves, move{member: m, was: m.profile, had: c.addrs(m), confirmed: c.confirmed(m)})
	}
}

// place gives every pod that was touched the addresses and the profile of now.
func (c *commit) place() {
	for i := range c.moves {
		m := c.moves[i].member
		here := c.node == "" || m.pod.Node == c.node
		var next *profile
		if c.ownAddrs(m) {
			next = c.profileOf(c.domain(m.pod.Namespace), m.pod)
		}
		c.noteDispute(m)
		if next == m.profile && here == m.here {
			continue
		}
		if m.profile != nil {
			c.mayChange(m.profile)
			m.profile.leave(m)
		}
		if m.here = here; next != nil {
			c.mayChange(next)
			next.join(m)
		}
	}
}

// ownAddrs notes which addresses belong to the pod, and reports whether any does.
func (c *commit) ownAddrs(m *member) bool {
	delete(c.partial, m)
	delete(c.foreign, m)
	if m.partial, m.foreign = false, false; m.gone {
		return false
	}
	claimed := claimed(m.pod)
	owned := own(claimed, func(a netip.Addr) bool { return c.claims.owners.of(a) == m })
	if m.partial = len(owned) < len(claimed); m.partial {
		c.partial[m] = owned
	}
	confirmed := own(owned, func(a netip.Addr) bool { return c.networks.place(m.pod, a) != Foreign })
	if m.foreign = len(confirmed) < len(owned); m.foreign {
		c.foreign[m] = confirmed
	}
	return len(owned) > 0
}

func (c *commit) mayChange(p *profile) {
	if _, noted := c.profiles[p]; !noted {
		c.profiles[p] = false
	}
}

// reseat tells the sets of before the commit who came and who left.
func (c *commit) reseat() {
	for _, m := range c.moves {
		addrs, confirmed := c.addrs(m.member), c.confirmed(m.member)
		same := slices.Equal(m.had, addrs) && slices.Equal(m.confirmed, confirmed)
		if same && m.was == m.profile {
			continue
		}
		before, after := c.seats(m.was), c.seats(m.profile)
		if same {
			before, after = differences(before, after)
		}
		c.seat(before, m.had, m.confirmed, -1)
		c.seat(after, addrs, confirmed, 1)
	}
}

func (c *commit) seat(seats []seat, addrs, confirmed []netip.Addr, by int) {
	for _, s := range seats {
		in := confirmed
		if s.set.withForeignAddrs() {
			in = addrs
		}
		for _, a := range in {
			c.alter(s.set, NamedPort{Protocol: s.protocol, Port: s.port}.element(a), by)
		}
	}
}

// differences are what is in only one of two sorted lists.
func differences(a, b []seat) (onlyA, onlyB []seat) {
	for len(a) > 0 && len(b) > 0 {
		switch n := compareSeats(a[0], b[0]); {
		case n < 0:
			onlyA, a = append(onlyA, a[0]), a[1:]
		case n > 0:
			onlyB, b = append(onlyB, b[0]), b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return append(onlyA, a...), append(onlyB, b...)
}

// settle notes the profiles that somebody is here of from now on.
func (c *commit) settle() {
	for p := range c.profiles {
		if len(p.here) > 0 {
			c.settled(p)
		}
	}
}

// classify gives classes to the profiles that somebody is here of, and only to these.
func (c *commit) classify() {
	for p, changed := range c.profiles {
		if before := p.class; len(p.here) > 0 && (before[0] == nil || changed) {
			s := c.selecting(p)
			subjects := c.subjects(p, s, before[0] == nil)
			for _, d := range policy.Directions {
				p.class[d] = c.acquire(d, subjects[d], s)
			}
			c.release(before)
		}
	}
	for p := range c.profiles {
		if len(p.here) == 0 {
			c.deserted(p)
			delete(c.deferred, p)
			c.release(p.class)
			p.class = [2]*builtClass{}
		}
	}
}

// setEndpoints tells which endpoints are others now.
func (c *commit) setEndpoints() {
	for _, m := range c.moves {
		c.setEndpoint(m.member)
	}
	for p, changed := range c.profiles {
		if changed {
			for _, m := range p.here {
				c.setEndpoint(m)
			}
		}
	}
}

func (c *commit) setEndpoint(m *member) {
	before := m.endpoint
	if m.profile == nil || !m.here {
		if m.endpoint = nil; before != nil {
			c.change.EndpointsGone = append(c.change.EndpointsGone, before.Key())
		}
		return
	}
	now := policy.Endpoint{Namespace: m.pod.Namespace, Name: m.pod.Name, Node: m.pod.Node, Addrs: c.addrs(m)}
	for d, class := range m.profile.class {
		now.Class[d] = class.class.ID
	}
	if before == nil || before.Node != now.Node || before.Class != now.Class || !slices.Equal(before.Addrs, now.Addrs) {
		m.endpoint = &now
		c.change.Endpoints = append(c.change.Endpoints, now)
	}
}

// cleanUp forgets what is no longer there.
func (c *commit) cleanUp() {
	for _, m := range c.moves {
		if m.touched = false; m.gone {
			d := c.domain(m.pod.Namespace)
			delete(d.members, m.pod.Name)
			c.leaveDomain(d)
		}
	}
	for p := range c.profiles {
		if p.empty() {
			c.forget(p)
		}
	}
}
