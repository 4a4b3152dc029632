package compile

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/tierwall/tierwall/policy"
)

// defaultID is whose decision the default action is.
var defaultID = policy.RuleID{Kind: string(policy.DefaultTier)}

// classBuilder builds the classes of one direction, each of them once.
type classBuilder struct {
	direction policy.Direction
	policies  *policies
	defaults  policy.Defaults
	classes   map[policy.ClassID]*policy.Class
	known     map[string]policy.ClassID // by what the class follows from
	sets      map[policy.SetID]*definition
}

// classOf is the class of the pod.
func (b *classBuilder) classOf(p *pod, s selecting) policy.ClassID {
	key := b.key(p, s)
	if id, ok := b.known[key]; ok {
		return id
	}
	c := b.build(p, s)
	b.known[key] = c.ID
	b.classes[c.ID] = c
	return c.ID
}

// key is what the pod's class follows from: the policies that select it, the default
// action of its namespace and, where some rule goes by name, its named ports.
func (b *classBuilder) key(p *pod, s selecting) string {
	key := []byte{byte(b.defaults.For(p.Namespace))}
	named := false
	for _, cp := range s.cluster {
		key = binary.BigEndian.AppendUint32(key, uint32(cp.index))
		named = named || cp.named[b.direction]
	}
	key = append(key, 0xff, 0xff, 0xff, 0xff)
	for _, np := range s.namespaced {
		key = binary.BigEndian.AppendUint32(key, uint32(np.index))
		named = named || np.named[b.direction]
	}
	if named && b.direction == policy.Ingress {
		for _, port := range p.Ports {
			key = append(key, 0xff, byte(port.Protocol), byte(port.Port>>8), byte(port.Port))
			key = append(key, port.Name...)
			key = append(key, 0)
		}
	}
	return string(key)
}

// build puts the tiers together, leaving out those that no flow gets to.
func (b *classBuilder) build(p *pod, s selecting) *policy.Class {
	c := &policy.Class{}
	defer func() { c.ID = classID(b.direction, c.Tiers) }()
	if b.clusterTier(c, policy.AdminTier, p, s) {
		return c
	}
	if b.networkPolicyTier(c, p, s) {
		return c
	}
	if b.clusterTier(c, policy.BaselineTier, p, s) {
		return c
	}
	c.Tiers = append(c.Tiers, policy.Tier{Name: policy.DefaultTier, Else: b.defaults.For(p.Namespace), ElseID: defaultID})
	return c
}

// clusterTier adds a tier of ClusterNetworkPolicies and says whether it decides every flow.
// Rules behind one that matches everything are left out.
func (b *classBuilder) clusterTier(c *policy.Class, name policy.TierName, p *pod, s selecting) (final bool) {
	tier := policy.Tier{Name: name, Else: policy.Pass}
	for _, cp := range s.cluster {
		if cp.policy.tier != name || final {
			continue
		}
		for _, r := range cp.policy.rules[b.direction] {
			if out, ok := b.resolve(r, p); ok {
				tier.Rules = append(tier.Rules, out)
				if final = out.AnyPeer && out.AnyPort; final {
					break
				}
			}
		}
	}
	if len(tier.Rules) > 0 {
		c.Tiers = append(c.Tiers, tier)
	}
	return final && !slices.ContainsFunc(tier.Rules, func(r policy.Rule) bool { return r.Verdict == policy.Pass })
}

// networkPolicyTier adds the tier of the NetworkPolicies, if any isolates the pod.
func (b *classBuilder) networkPolicyTier(c *policy.Class, p *pod, s selecting) (final bool) {
	tier := policy.Tier{Name: policy.NetworkPolicyTier}
	for _, np := range s.namespaced {
		if !np.policy.isolates[b.direction] {
			continue
		}
		if !final {
			tier.ElseID = np.policy.id
			tier.ElseID.Field = fieldOf(b.direction)
		}
		final = true
		for _, r := range np.policy.rules[b.direction] {
			if out, ok := b.resolve(r, p); ok {
				tier.Rules = append(tier.Rules, out)
			}
		}
	}
	if final {
		c.Tiers = append(c.Tiers, tier)
	}
	return final
}

// resolve resolves the rule for the pod and notes the sets that it needs.
func (b *classBuilder) resolve(r rule, p *pod) (policy.Rule, bool) {
	out, sets, ok := r.resolve(b.direction, p.Ports)
	if ok {
		for _, def := range sets {
			b.sets[def.id] = def
		}
	}
	return out, ok
}

// classID is 64 bits of a hash of everything that the class is.
func classID(d policy.Direction, tiers []policy.Tier) policy.ClassID {
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
	sum := sha256.Sum256(w)
	return policy.ClassID(hex.EncodeToString(sum[:8]))
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
