package compile

import (
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
	key     string // in the domain
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
	key := profileKey(e.scratch[:0], p)
	e.scratch = key
	if known := d.profiles[string(key)]; known != nil {
		return known
	}
	n := &profile{domain: d, key: string(key), account: p.ServiceAccount, written: p.Labels, ports: p.Ports}
	e.enter(n)
	return n
}

// profileKey appends everything that makes a profile of a namespace.
func profileKey(to contentWriter, p *Pod) contentWriter {
	to.text(p.ServiceAccount)
	to.number(len(p.Labels))
	var space [16]string
	keys := space[:0]
	for k := range p.Labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		to.text(k)
		to.text(p.Labels[k])
	}
	for _, port := range p.Ports {
		to.text(port.Name)
		to.number(int(port.Protocol))
		to.number(int(port.Port))
	}
	return to
}

// enter gives the profile its labels of now, and makes it the one of its key.
func (e *Engine) enter(p *profile) {
	d := p.domain
	p.labels, p.namespace = d.roles.Of(d.name, p.account, p.written).Apply(p.written), d.labels
	d.profiles[p.key] = p
	e.profiles.add(p, p.labels)
	for _, port := range p.ports {
		at := portName{port.Name, port.Protocol}
		if e.named[at] == nil {
			e.named[at] = map[*profile]struct{}{}
		}
		e.named[at][p] = struct{}{}
	}
}

// forget undoes enter.
func (e *Engine) forget(p *profile) {
	if p.domain.profiles[p.key] == p {
		delete(p.domain.profiles, p.key)
	}
	e.profiles.remove(p, p.labels)
	for _, port := range p.ports {
		at := portName{port.Name, port.Protocol}
		if delete(e.named[at], p); len(e.named[at]) == 0 {
			delete(e.named, at)
		}
	}
}

// current says whether the profile would be the same if it were made now.
func (p *profile) current() bool {
	d := p.domain
	return maps.Equal(p.namespace, d.labels) && maps.Equal(p.labels, d.roles.Of(d.name, p.account, p.written).Apply(p.written))
}

func (p *profile) empty() bool { return len(p.here)+len(p.elsewhere) == 0 }

func (p *profile) subject() subject { return subject{p.domain.name, p.ports} }

// list is where the member is, or would be.
func (p *profile) list(m *member) *[]*member {
	if m.here {
		return &p.here
	}
	return &p.elsewhere
}

func (p *profile) join(m *member) {
	list := p.list(m)
	m.profile, m.at = p, len(*list)
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
// pods in it.
type domain struct {
	name     string
	exists   bool
	labels   labels.Set
	itself   selector
	roles    *roles.Roles
	members  map[string]*member  // by name
	profiles map[string]*profile // by key
}

// domain is the domain of the name, which is made if it has to be.
func (e *Engine) domain(name string) *domain {
	if d := e.domains[name]; d != nil {
		return d
	}
	d := &domain{name: name, labels: labels.Set{nameLabel: name}, itself: nameIs(name), roles: e.roles.of(name),
		members: map[string]*member{}, profiles: map[string]*profile{}}
	e.domains[name] = d
	e.domainLabels.add(d, d.labels)
	return d
}

// leaveDomain forgets the domain if nothing is there any more.
func (e *Engine) leaveDomain(d *domain) {
	if !d.exists && len(d.members) == 0 && e.domains[d.name] == d {
		delete(e.domains, d.name)
		e.domainLabels.remove(d, d.labels)
	}
}
