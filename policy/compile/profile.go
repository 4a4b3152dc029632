package compile

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy/roles"
)

// profile is what pods that are alike have in common: all that policy depends on but their
// addresses and nodes. It never changes; pods move to another when something of theirs
// does, their own labels or the ones of their namespace.
type profile struct {
	domain  *domain
	hash    uint64
	next    *profile // of the domain with the same hash
	account string
	written labels.Set // as the pods carry them
	ports   []NamedPort

	labels    labels.Set // as selectors see them
	namespace labels.Set

	here, elsewhere []*member
	// class is nil while nobody is here.
	class [2]*builtClass
}

// profileOf is the profile of a pod in the domain.
func (e *Engine) profileOf(d *domain, p *Pod) *profile {
	hash := e.hash(p)
	for known := d.profiles[hash]; known != nil; known = known.next {
		if known.of(p) {
			return known
		}
	}
	n := &profile{domain: d, hash: hash, account: p.ServiceAccount, written: p.Labels, ports: p.Ports}
	e.enter(n)
	return n
}

// of reports whether the pod has the profile, if it is in its namespace.
func (p *profile) of(pod *Pod) bool {
	return p.account == pod.ServiceAccount && maps.Equal(p.written, pod.Labels) && slices.Equal(p.ports, pod.Ports)
}

// hash is one of what makes a profile. Labels are summed up, since they have no order.
func (e *Engine) hash(p *Pod) uint64 {
	sum := maphash.String(e.seed, p.ServiceAccount)
	for k, v := range p.Labels {
		sum += maphash.Comparable(e.seed, label{key: k, value: v})
	}
	for i, port := range p.Ports {
		sum += uint64(i+1) * maphash.Comparable(e.seed, port)
	}
	return sum
}

// enter gives the profile its labels of now, and makes it the one of its key.
func (e *Engine) enter(p *profile) {
	d := p.domain
	p.labels, p.namespace = d.roles.Of(d.name, p.account, p.written).Apply(p.written), d.labels
	p.next = d.profiles[p.hash]
	d.profiles[p.hash] = p
	e.profiles.add(p)
	for _, port := range p.ports {
		at := portName{name: port.Name, protocol: port.Protocol}
		if e.named[at] == nil {
			e.named[at] = map[*profile]struct{}{}
		}
		e.named[at][p] = struct{}{}
	}
}

// forget undoes enter.
func (e *Engine) forget(p *profile) {
	if !p.domain.remove(p) {
		return
	}
	e.profiles.remove(p)
	for _, port := range p.ports {
		at := portName{name: port.Name, protocol: port.Protocol}
		if delete(e.named[at], p); len(e.named[at]) == 0 {
			delete(e.named, at)
		}
	}
}

// current reports whether the profile would be the same if it were made now.
func (p *profile) current() bool {
	d := p.domain
	return maps.Equal(p.namespace, d.labels) && maps.Equal(p.labels, d.roles.Of(d.name, p.account, p.written).Apply(p.written))
}

func (p *profile) empty() bool { return len(p.here)+len(p.elsewhere) == 0 }

func (p *profile) subject() subject {
	return subject{p.domain.name, p.ports, p.domain.budgets.areOver()}
}

// list is where the member is, or would be.
func (p *profile) list(m *member) *[]*member {
	if m.here {
		return &p.here
	}
	return &p.elsewhere
}

func (p *profile) join(m *member) {
	list := p.list(m)
	m.profile, m.at = p, int32(len(*list))
	*list = append(*list, m)
}

func (p *profile) leave(m *member) {
	list := p.list(m)
	last := len(*list) - 1
	moved := (*list)[last]
	(*list)[m.at], moved.at = moved, m.at
	(*list)[last] = nil
	*list = (*list)[:last]
	m.profile = nil
}

// domain is a namespace as far as policy depends on it. It is there if the namespace is, or
// pods or policies in it.
type domain struct {
	name      string
	exists    bool
	labels    labels.Set
	roles     *roles.Roles
	members   map[string]*member  // by name
	profiles  map[uint64]*profile // by hash
	policies  map[string]*shelved // by name
	inhabited int                 // how many profiles are
	written   int                 // the size of its policies, in entries
	budgets   budgets
}

// remove takes a profile out of the domain, and reports whether it was there.
func (d *domain) remove(p *profile) bool {
	if d.profiles[p.hash] == p {
		if d.profiles[p.hash] = p.next; p.next == nil {
			delete(d.profiles, p.hash)
		}
		return true
	}
	for at := d.profiles[p.hash]; at != nil; at = at.next {
		if at.next == p {
			at.next = p.next
			return true
		}
	}
	return false
}

func (d *domain) allProfiles() iter.Seq[*profile] {
	return func(yield func(*profile) bool) {
		for _, p := range d.profiles {
			for ; p != nil; p = p.next {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// domain is the domain of the name, which is made if it has to be.
func (e *Engine) domain(name string) *domain {
	if d := e.domains[name]; d != nil {
		return d
	}
	d := &domain{name: name, labels: labels.Set{nameLabel: name}, roles: e.roles.of(name),
		members: map[string]*member{}, profiles: map[uint64]*profile{}, policies: map[string]*shelved{}}
	e.domains[name] = d
	e.domainLabels.add(d)
	return d
}

// leaveDomain forgets the domain if nothing is there any more.
func (e *Engine) leaveDomain(d *domain) {
	if !d.exists && len(d.members)+len(d.policies) == 0 && e.domains[d.name] == d {
		delete(e.domains, d.name)
		e.domainLabels.remove(d)
	}
}
