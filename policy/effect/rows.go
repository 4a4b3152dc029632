package effect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// maxPairs bounds the pairs of groups with an opening between them. The effect of a change that has more is not
// computed.
const maxPairs = 200_000

// pairView is what a class pair opens.
type pairView struct {
	peers    []*opening // by equivalence number
	networks []*networkOpening
}

// networkOpening is what is opened to a network, except some networks within it.
type networkOpening struct {
	*opening
	side Peer
	key  sideKey
}

// maxViewed bounds the memory of cached views.
const maxViewed = 2_000_000

// rowCollector collects the rows of what one state allows and the other does not.
type rowCollector struct {
	*comparison
	from, to clusterState
	views    map[classPair]*pairView
	viewed   int // memory size of views
	pairs    int
	rows     *rowList
	roles    *rolePorts
}

func newRowCollector(c *comparison, from, to clusterState) *rowCollector {
	return &rowCollector{comparison: c, from: from, to: to, views: map[classPair]*pairView{}, rows: &rowList{limit: MaxRows}, roles: newRolePorts()}
}

// collectRows compares the affected subjects with all peers and networks, in a fixed order.
func (r *rowCollector) collectRows() {
	for _, d := range policy.Directions {
		for _, s := range r.affectedSubjects(d) {
			if !r.canContinue() {
				return
			}
			if s.kinds[r.to] != nil {
				r.addSubject(d, s)
			}
		}
	}
}

func (r *rowCollector) addSubject(d policy.Direction, s *representative) {
	v := r.viewFor(classPair{r.compiled[r.from].classes[s][d], r.compiled[r.to].classes[s][d]})
	for _, p := range r.representatives {
		o := v.peers[r.equivalence[p]]
		if o.isEmpty() || p.kinds[r.to] == nil || len(o.ports) == 0 { // only port 0, which no flow has
			continue
		}
		if !r.countPair() {
			return
		}
		blocked := r.isBlocked(r.to, o, s, d, p)
		r.addFinding(finding{opening: o, direction: d, subject: s, subjectSide: r.describePeer(s, r.to), peerSide: r.describePeer(p, r.to),
			subjectKey: r.sideKey(s, r.to), peerKey: r.sideKey(p, r.to), blocked: blocked, potential: blocked || s.pods == 0 || p.pods == 0})
	}
	for _, n := range v.networks {
		if !r.countPair() {
			return
		}
		r.addFinding(finding{opening: n.opening, direction: d, subject: s, subjectSide: r.describePeer(s, r.to), peerSide: n.side,
			subjectKey: r.sideKey(s, r.to), peerKey: n.key, potential: s.pods == 0})
	}
}

func (r *rowCollector) addFinding(f finding) {
	r.roles.addFinding(f)
	r.rows.addFinding(f)
}

// countPair counts a pair, and reports whether to continue.
func (r *rowCollector) countPair() bool {
	if r.pairs++; r.pairs > maxPairs {
		r.stopped = fmt.Sprintf("more than %d pairs of kinds of pods would have to be compared", maxPairs)
	}
	return r.canContinue()
}

// viewFor returns what a class pair opens to each representative and network.
func (r *rowCollector) viewFor(pair classPair) *pairView {
	if v := r.views[pair]; v != nil {
		return v
	}
	v := &pairView{}
	for _, p := range r.firstEquivalent {
		v.peers = append(v.peers, r.openingTo(r.from, r.to, pair, p))
	}
	for _, n := range r.networks {
		r.addNetworkView(v, pair, n, nil)
	}
	if r.viewed += v.memorySize(); r.viewed > maxViewed {
		clear(r.views)
		r.viewed = v.memorySize()
	}
	r.views[pair] = v
	return v
}

// memorySize estimates the memory of a view, in pointers.
func (v *pairView) memorySize() int {
	const opening = 50
	n := len(v.peers)
	for _, o := range v.peers {
		if o != nil {
			n += opening + len(o.spans) + 4*len(o.ports)
		}
	}
	for _, o := range v.networks {
		n += 2*opening + len(o.spans) + 4*len(o.ports) + 4*len(o.side.Except)
	}
	return n
}

// addNetworkView adds a network unless the network around it has the same opening, and returns its ports.
func (r *rowCollector) addNetworkView(v *pairView, pair classPair, n *networkNode, around []string) (ports []string) {
	if !r.canContinue() {
		return nil
	}
	var found *networkOpening
	if n.probe.IsValid() {
		if o := r.openingBetween(r.from, r.to, pair, n.probe); !o.isEmpty() {
			r.nameOpening(o)
			ports = o.ports
			if len(ports) > 0 && !slices.Equal(ports, around) {
				found = &networkOpening{opening: o}
				v.networks = append(v.networks, found)
			}
		}
	} else {
		ports = around // all of it is covered by networks within
	}
	var except []string
	for _, w := range n.children {
		if inner := r.addNetworkView(v, pair, w, ports); !slices.Equal(inner, ports) {
			except = append(except, w.name)
		}
	}
	if found != nil {
		slices.Sort(except)
		found.side = Peer{Kind: CIDR, Name: n.name, Except: except, NamespaceLabels: map[string]string{}, Labels: map[string]string{}}
		found.key = sideKey{kind: CIDR, network: n.name, except: strings.Join(except, " ")}
	}
	return ports
}
