package effect

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/roles"
)

// maxGroups is how many groups of pods are compared with each other; of more
// the effect is not computed.
const maxGroups = 4000

// moment is one of the two states that are compared.
type moment int

const (
	was moment = iota
	is
)

var moments = [...]moment{was, is}

// group is pods that no policy can tell apart, before and after the change.
type group struct {
	namespace *namespace
	// kinds are what its pods are, before and after; nil when they do not exist then.
	kinds [2]*kind
	// pods is how many there are; 0 of those that could exist.
	pods int
	// first is the name of the first pod.
	first string
	// claim is of the pod whose addresses the group stands at; without a pod of those that could exist.
	claim compile.Claim
}

// kind is what policies can tell of a pod.
type kind struct {
	role string
	// labels are those of one pod of the kind that policies mention, with the computed role.
	labels map[string]string
	// shared are those of labels that all pods of the group have.
	shared map[string]string
	// like is a pod of the kind.
	like *compile.Pod
}

// namespace is one of the cluster, or one that a selector would match.
type namespace struct {
	name string
	// imagined is true when its name means nothing.
	imagined bool
	labels   [2]map[string]string
	shown    [2]labels.Set // as selectors see them, once asked for
}

// universe is all groups, and those of pods that could exist and would matter.
type universe struct {
	vocabulary *vocabulary
	networks   prefixes // those that policies mention
	nodes      *compile.NodeNetworks
	roles      [2]*roles.Roles
	tierRoles  []tierRole
	namespaces []*namespace // sorted by name
	byName     map[string]*namespace
	groups     []*group
	known      map[[2]string]*group    // the imagined groups by kinds
	real       map[*namespace][]*group // with pods there are
	full       bool                    // as no more groups are wanted
	incomplete []string
}

// newUniverse groups the pods of both snapshots. It returns the context's error where that ends before.
func newUniverse(ctx context.Context, snapshots [2]*compile.Snapshot, v *vocabulary, networks []netip.Prefix) (*universe, error) {
	u := &universe{vocabulary: v, byName: map[string]*namespace{}, known: map[[2]string]*group{}, real: map[*namespace][]*group{}}
	u.nodes = compile.NewNodeNetworks(snapshots[is].Nodes)
	for i, n := range networks {
		u.networks.add(n, i)
	}
	for _, m := range moments {
		u.roles[m] = roles.New(snapshots[m].TierRoles)
		for _, n := range snapshots[m].Namespaces {
			u.namespaceNamed(n.Name).labels[m] = n.Labels
		}
	}
	u.tierRoles = bindings(snapshots)
	if err := u.group(ctx, snapshots); err != nil {
		return nil, err
	}
	u.namespaces = slices.SortedFunc(maps.Values(u.byName), func(a, b *namespace) int { return compareText(a.name, b.name) })
	return u, nil
}

func (u *universe) namespaceNamed(name string) *namespace {
	n := u.byName[name]
	if n == nil {
		n = &namespace{name: name}
		u.byName[name] = n
	}
	return n
}

// share leaves of the labels that all pods of the group have those that a pod of the same kinds has.
func (g *group) share(kinds [2]*kind) {
	for _, m := range moments {
		if g.kinds[m] != nil {
			g.kinds[m].shared = inBoth(g.kinds[m].shared, kinds[m].labels)
		}
	}
}

func (u *universe) kindOf(m moment, p *compile.Pod) *kind {
	match := u.roles[m].Of(p.Namespace, p.ServiceAccount, p.Labels)
	mentioned := u.vocabulary.mentioned(match.Apply(p.Labels))
	return &kind{role: match.Role, labels: mentioned, shared: mentioned, like: p}
}

// imagine adds the groups of pods that could exist and that the selection would
// match: in each namespace that it matches, and in one that does not exist yet,
// of each role that pods can hold there.
func (u *universe) imagine(ctx context.Context, s selection, ports []compile.NamedPort) {
	labelSets, ok := witnesses(s.pods, roleLabel)
	if !ok {
		u.giveUp("%s %s matches too many combinations of labels", s.ref.Policy, s.ref.Rule)
		return
	}
	if s.byPods == nil {
		return
	}
	for _, n := range u.matching(s) {
		for _, role := range u.candidates(n.name) {
			for _, l := range labelSets {
				if u.full || ctx.Err() != nil {
					return
				}
				u.imaginePod(n, role, l, s.byPods, ports)
			}
		}
	}
}

func (u *universe) imaginePod(n *namespace, role candidate, with map[string]string, s labels.Selector, ports []compile.NamedPort) {
	all := maps.Clone(role.labels)
	maps.Copy(all, with)
	pod := &compile.Pod{Namespace: n.name, ServiceAccount: role.serviceAccount, Labels: all, Ports: ports}
	kinds := [2]*kind{u.kindOf(was, pod), u.kindOf(is, pod)}
	if !s.Matches(labels.Set(kinds[was].labels)) && !s.Matches(labels.Set(kinds[is].labels)) {
		return
	}
	keys := [2]string{u.keyOf(kinds[was]), u.keyOf(kinds[is])}
	if g := u.known[keys]; g != nil {
		g.share(kinds)
		return
	}
	if u.represented(n, kinds, s) {
		return
	}
	if len(u.groups) >= maxGroups {
		u.full = true
		u.giveUp("there are more than %d kinds of pods%s", maxGroups, u.vocabulary.atFault(u.groups))
		return
	}
	g := &group{namespace: n, kinds: kinds}
	u.known[keys] = g
	u.groups = append(u.groups, g)
}

// represented reports whether there are pods of the same role that are the same to the selector.
func (u *universe) represented(n *namespace, kinds [2]*kind, s labels.Selector) bool {
	alike := func(a, b *kind) bool {
		return a.role == b.role && s.Matches(labels.Set(a.labels)) == s.Matches(labels.Set(b.labels))
	}
	return slices.ContainsFunc(u.real[n], func(g *group) bool {
		return g.kinds[is] != nil && alike(g.kinds[is], kinds[is]) && (g.kinds[was] == nil || alike(g.kinds[was], kinds[was]))
	})
}

func (u *universe) giveUp(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	if !slices.Contains(u.incomplete, why) {
		u.incomplete = append(u.incomplete, why)
	}
}

// matching are the namespaces of a selection, at either moment, and those that
// do not exist yet.
func (u *universe) matching(s selection) []*namespace {
	if s.namespaces == nil {
		return []*namespace{u.namespaceNamed(s.namespace)}
	}
	if s.byNamespaces == nil {
		return nil
	}
	var out []*namespace
	for _, n := range u.namespaces {
		if n.matches(s.byNamespaces) {
			out = append(out, n)
		}
	}
	labelSets, ok := witnesses(s.namespaces, "")
	if !ok {
		u.giveUp("%s %s matches too many combinations of namespace labels", s.ref.Policy, s.ref.Rule)
	}
	for _, l := range labelSets {
		if n := u.imagineNamespace(l, s.byNamespaces); n != nil && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func (n *namespace) matches(s labels.Selector) bool {
	for _, m := range moments {
		if s.Matches(n.seen(m)) {
			return true
		}
	}
	return false
}

// seen are the labels as selectors see them.
func (n *namespace) seen(m moment) labels.Set {
	if n.shown[m] == nil {
		n.shown[m] = seenLabels(n.name, n.labels[m])
	}
	return n.shown[m]
}

func seenLabels(name string, l map[string]string) labels.Set {
	if l[corev1.LabelMetadataName] == name {
		return l
	}
	out := make(labels.Set, len(l)+1)
	maps.Copy(out, l)
	out[corev1.LabelMetadataName] = name
	return out
}

// imagineNamespace is a namespace with the labels that does not exist; nil if it
// would be one that does, or if the selector would not match it.
func (u *universe) imagineNamespace(with map[string]string, s labels.Selector) *namespace {
	name, named := with[corev1.LabelMetadataName]
	if named && u.byName[name] != nil {
		return nil
	}
	if !named {
		name = "tierwall.any." + canonical(with)
	}
	n := u.byName[name]
	if n == nil {
		n = &namespace{name: name, imagined: !named, labels: [2]map[string]string{with, with}}
		if !n.matches(s) {
			return nil
		}
		u.byName[name] = n
	}
	return n
}

func canonical(l map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, k+"="+l[k])
	}
	return strings.Join(parts, ",")
}
