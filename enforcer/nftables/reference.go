package nftables

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/rulegroup"
	"github.com/tierwall/tierwall/enforcer/transition"
	"github.com/tierwall/tierwall/internal/contenthash"
	"github.com/tierwall/tierwall/policy"
)

// reference is a set or a chain that the chains of several classes may refer to. Its name
// follows from its content, all of it but the members of the policy's sets.
type reference struct {
	family family
	// kind and ids are those of the policy's sets that a set is the union of.
	kind policy.SetKind
	ids  []policy.SetID
	// spans are those of a set of ports.
	spans []rulegroup.Span
	// chain is a chain that looks up peers.
	chain   *peerChain
	classes map[transition.Class]bool
}

// peerChain is a chain whose packets are looked up in sets, by the base names of these.
type peerChain struct {
	peer          field
	sets          []string
	verdict, miss verdict
	// ofRun reports that the chain is that of one run of a class, whose verdicts may change.
	ofRun bool
}

// sameAs reports whether both are about the same, for the same hash.
func (r *reference) sameAs(o *reference) bool {
	return slices.Equal(r.ids, o.ids) && slices.Equal(r.spans, o.spans) && r.chain.sameAs(o.chain)
}

func (c *peerChain) sameAs(o *peerChain) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.peer == o.peer && slices.Equal(c.sets, o.sets) && c.ofRun == o.ofRun &&
		(c.ofRun || c.verdict == o.verdict && c.miss == o.miss)
}

// baseOf returns the base name of what is referred to: its hash, unless something else has that; then with a number.
func (r *renderer) baseOf(hash string, ref *reference) string {
	unused := ""
	for n := 1; n <= max(1, r.numbered[hash]); n++ {
		base := contenthash.Numbered(hash, n)
		there := r.refs[base]
		if there == nil {
			there = r.inForce[base]
		}
		switch {
		case there == nil && unused == "":
			unused = base
		case there != nil && there.sameAs(ref):
			return base
		}
	}
	if unused == "" {
		r.numbered[hash] = max(1, r.numbered[hash]) + 1
		unused = contenthash.Numbered(hash, r.numbered[hash])
	}
	return unused
}

// addReference has the class refer to something, by its base name.
func (b *classBuilder) addReference(hash string, ref reference) string {
	base := b.baseOf(hash, &ref)
	if b.refs[base] == nil {
		ref.classes = map[transition.Class]bool{}
		b.refs[base] = &ref
	}
	b.refs[base].classes[b.Class] = true
	return base
}

// sharedSet refers to a policy's set.
func (b *classBuilder) sharedSet(id policy.SetID) (string, error) {
	s, ok := b.program.Sets[id]
	if !ok {
		return "", fmt.Errorf("the program has no set %q", id)
	}
	return b.addReference(setName(b.family, id), reference{family: b.family, kind: s.Kind, ids: []policy.SetID{id}}), nil
}

// unionSet refers to a set with the members of several sets of a kind.
func (b *classBuilder) unionSet(kind policy.SetKind, ids peerList) (string, error) {
	if len(ids) == 1 {
		return b.sharedSet(ids[0])
	}
	prefix := "any"
	if kind == policy.Networks {
		prefix = "net"
	}
	return b.addReference(fmt.Sprintf("%s%d-%s", prefix, b.family, contentDigest(ids.joinIDs())), reference{family: b.family, kind: kind, ids: ids}), nil
}

// portSet refers to a set of ports.
func (b *classBuilder) portSet(spans []rulegroup.Span) string {
	return b.addReference("ports-"+contentDigest(spansKey(spans)), reference{spans: spans})
}

// peerChain refers to a chain that looks up the peer in sets, and says what becomes of one that is in none.
func (b *classBuilder) peerChain(c peerChain) string {
	key := contentDigest(fmt.Sprint(b.Direction, b.family, c.verdict, c.miss, strings.Join(c.sets, " ")))
	name := fmt.Sprintf("to%d-%s", b.family, key)
	if own := b.chainName(0); strings.HasPrefix(string(c.miss), string(goTo(own))) {
		name, c.ofRun = b.runName(contentDigest(strings.Join(c.sets, " "))), true
	}
	return b.addReference(name, reference{family: b.family, chain: &c})
}

// contentDigest is the hash of a content.
func contentDigest(content string) string { return contenthash.Sum([]byte(content)) }

// putReference makes what a reference is about, in full.
func (r *renderer) putReference(base string, ref *reference) {
	switch {
	case ref.chain != nil:
		r.addChain(base, "", ref.chain.chainRules(r.names)...)
	case ref.spans != nil:
		r.out.Sets[r.names.nameOf(base)] = Set{Type: portFields.setType(), Interval: true, Elements: spanElements(ref.spans)}
	default:
		r.putMembers(base, ref, func(s *policy.Set) []policy.Element { return s.Elements })
	}
}

// putMembers makes a set of peers with some of the members of each of the policy's sets.
func (r *renderer) putMembers(base string, ref *reference, some func(*policy.Set) []policy.Element) {
	var blocks []block
	out := setOf(ref.family, r.kindOf(ref))
	out.Elements = map[string]Element{}
	for _, id := range ref.ids {
		s := r.program.Sets[id]
		switch {
		case s == nil:
		case s.Kind == policy.Networks:
			blocks = append(blocks, blocksOf(ref.family, some(s))...)
		default:
			addMembers(out.Elements, ref.family, some(s))
		}
	}
	if len(blocks) > 0 {
		out.Elements = blockElements(mergeBlocks(blocks))
	}
	r.out.Sets[r.names.nameOf(base)] = out
}

// kindOf is the kind of a set of peers. That of a policy's set follows from the program.
func (r *renderer) kindOf(ref *reference) policy.SetKind {
	if len(ref.ids) == 1 && r.program.Sets[ref.ids[0]] != nil {
		return r.program.Sets[ref.ids[0]].Kind
	}
	return ref.kind
}

func (c *peerChain) chainRules(n names) []Rule {
	var out []Rule
	for _, base := range c.sets {
		out = append(out, newRule("", fieldsInSet{fields: fields{c.peer}, set: n.nameOf(base)}, c.verdict))
	}
	return append(out, newRule("", c.miss))
}

// references are what chains of classes refer to, by base name.
type references map[string]*reference

// replaceClasses returns the references after some classes were rendered again.
func (r references) replaceClasses(classes map[transition.Class]bool, rendered map[string]*reference) references {
	out := maps.Clone(r)
	for base, ref := range r {
		if !ref.usedBy(classes) {
			continue
		}
		next := *ref
		next.classes = maps.Clone(ref.classes)
		maps.DeleteFunc(next.classes, func(k transition.Class, _ bool) bool { return classes[k] })
		out[base] = &next
		if len(next.classes) == 0 {
			delete(out, base)
		}
	}
	for base, ref := range rendered {
		next := *ref
		next.classes = maps.Clone(ref.classes)
		if there := out[base]; there != nil {
			maps.Copy(next.classes, there.classes)
		}
		out[base] = &next
	}
	return out
}

// usedBy reports whether one of the classes uses it.
func (r *reference) usedBy(classes map[transition.Class]bool) bool {
	for k := range classes {
		if r.classes[k] {
			return true
		}
	}
	return false
}
