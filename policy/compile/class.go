package compile

import (
	"encoding/binary"
	"slices"

	"github.com/tierwall/tierwall/internal/contenthash"
	"github.com/tierwall/tierwall/policy"
)

// defaultID is whose decision the default action is.
var defaultID = policy.RuleID{Kind: string(policy.DefaultTier)}

// classBuilder builds the classes of one direction.
type classBuilder struct {
	direction policy.Direction
	defaults  policy.Defaults
}

// subject is what of an endpoint its class can follow from, besides the policies that select it.
type subject struct {
	namespace string
	ports     []NamedPort
	// closed is true where the namespace is over a budget.
	closed bool
}

// key is what the class follows from: the policies that select the endpoint, the default
// action of its namespace and, where some rule goes by name, its named ports.
func (b classBuilder) key(of subject, s selecting) string {
	key := []byte{byte(b.defaults.For(of.namespace))}
	if of.closed {
		key = append(append(key, 0xff), of.namespace...)
	}
	named := false
	for _, cp := range s.cluster {
		key = binary.BigEndian.AppendUint64(key, cp.number)
		named = named || cp.named[b.direction]
	}
	key = append(key, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	for _, np := range s.namespaced {
		key = binary.BigEndian.AppendUint64(key, np.number)
		named = named || np.named[b.direction]
	}
	if named && b.direction == policy.Ingress {
		for _, port := range of.ports {
			key = append(key, 0xff, byte(port.Protocol), byte(port.Port>>8), byte(port.Port))
			key = append(key, port.Name...)
			key = append(key, 0)
		}
	}
	return string(key)
}

// setNamer gives sets their IDs: equal definitions have equal ones, different definitions different ones.
type setNamer interface {
	nameSet(*definition) policy.SetID
}

// build is the class, with the sets that it refers to. Its ID is the hash of its content, which another class may
// have as well. Tiers that no flow gets to are left out. The tier of the NetworkPolicies has no rules, which denies
// everything, where the namespace or, with over, the class is over a budget.
func (b classBuilder) build(of subject, s selecting, over bool, names setNamer) (*policy.Class, map[policy.SetID]bool) {
	u := &unfinished{direction: b.direction, ports: of.ports, names: names, sets: map[policy.SetID]bool{}}
	switch {
	case u.clusterTier(policy.AdminTier, s.cluster):
	case of.closed && u.closedTier(of.namespace), !of.closed && u.networkPolicyTier(s.namespaced, over):
	case u.clusterTier(policy.BaselineTier, s.cluster):
	default:
		u.tiers = append(u.tiers, policy.Tier{Name: policy.DefaultTier, Else: b.defaults.For(of.namespace), ElseID: defaultID})
	}
	return &policy.Class{ID: classHash(b.direction, u.tiers), Tiers: u.tiers}, u.sets
}

// unfinished is a class as far as it is built.
type unfinished struct {
	direction policy.Direction
	ports     []NamedPort
	tiers     []policy.Tier
	names     setNamer
	sets      map[policy.SetID]bool
}

// clusterTier adds a tier of ClusterNetworkPolicies and reports whether it decides every flow.
// Rules behind one that matches everything are left out.
func (u *unfinished) clusterTier(name policy.TierName, policies []*clusterPolicy) (final bool) {
	tier := policy.Tier{Name: name, Else: policy.Pass}
	for _, cp := range policies {
		if cp.tier != name || final {
			continue
		}
		for _, r := range cp.rules[u.direction] {
			if out, ok := u.resolve(r); ok {
				tier.Rules = append(tier.Rules, out)
				if final = out.AnyPeer && out.AnyPort; final {
					break
				}
			}
		}
	}
	if len(tier.Rules) > 0 {
		u.tiers = append(u.tiers, tier)
	}
	return final && !slices.ContainsFunc(tier.Rules, func(r policy.Rule) bool { return r.Verdict == policy.Pass })
}

// closedTier adds the tier of the NetworkPolicies of a namespace that is over a budget.
func (u *unfinished) closedTier(namespace string) (final bool) {
	u.tiers = append(u.tiers, policy.Tier{Name: policy.NetworkPolicyTier, ElseID: namespaceID(namespace)})
	return true
}

// networkPolicyTier adds the tier of the NetworkPolicies, if any isolates the endpoint, without
// rules where they are over the budget of a class.
func (u *unfinished) networkPolicyTier(policies []*networkPolicy, over bool) (final bool) {
	tier := policy.Tier{Name: policy.NetworkPolicyTier}
	for _, np := range policies {
		if !np.isolates[u.direction] {
			continue
		}
		if !final {
			tier.ElseID = np.id
			tier.ElseID.Field = fieldOf(u.direction)
		}
		if final = true; over {
			break
		}
		for _, r := range np.rules[u.direction] {
			if out, ok := u.resolve(r); ok {
				tier.Rules = append(tier.Rules, out)
			}
		}
	}
	if final {
		u.tiers = append(u.tiers, tier)
	}
	return final
}

// resolve resolves the rule for the endpoint and notes the sets that it needs.
func (u *unfinished) resolve(r rule) (policy.Rule, bool) {
	out, ok := r.resolve(u.direction, u.ports, u.names)
	if ok {
		for _, id := range out.Peers {
			u.sets[id] = true
		}
		for _, p := range out.Ports {
			if p.Named != "" {
				u.sets[p.Named] = true
			}
		}
	}
	return out, ok
}

// classHash is the hash of everything that the class is.
func classHash(d policy.Direction, tiers []policy.Tier) policy.ClassID {
	var w contentWriter
	w.number(int(d))
	w.number(len(tiers))
	for _, t := range tiers {
		w.text(string(t.Name))
		w.number(int(t.Else))
		w.ruleID(t.ElseID)
		w.number(len(t.Rules))
		for _, r := range t.Rules {
			w.rule(r)
		}
	}
	return policy.ClassID(contenthash.Sum(w))
}

// contentWriter writes values so that different content has different bytes:
// every text and list goes behind its length.
type contentWriter []byte

func (w *contentWriter) number(n int) { *w = binary.AppendUvarint(*w, uint64(n)) }

func (w *contentWriter) text(s string) {
	w.number(len(s))
	*w = append(*w, s...)
}

func (w *contentWriter) ruleID(id policy.RuleID) {
	w.text(id.Kind)
	w.text(id.Namespace)
	w.text(id.Name)
	w.text(id.Field)
}

func (w *contentWriter) rule(r policy.Rule) {
	w.ruleID(r.ID)
	w.number(int(r.Verdict))
	w.number(count(r.AnyPeer))
	w.number(len(r.Peers))
	for _, p := range r.Peers {
		w.text(string(p))
	}
	w.number(count(r.AnyPort))
	w.number(len(r.Ports))
	for _, p := range r.Ports {
		w.number(int(p.Protocol))
		w.number(int(p.First))
		w.number(int(p.Last))
		w.text(string(p.Named))
	}
}
