package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/internal/contenthash"
	"github.com/tierwall/tierwall/policy"
)

// Every chain of ours begins with chainPrefix, every set with the prefix of its family.
const (
	chainPrefix = "TIERWALL-"

	forwardChain = chainPrefix + "FORWARD"
	inputChain   = chainPrefix + "INPUT"
	outputChain  = chainPrefix + "OUTPUT"
	strayChain   = chainPrefix + "STRAY"
	denyChain    = chainPrefix + "DENY"
	auditChain   = chainPrefix + "AUDIT-"
)

const (
	maxChainName = 28 // XT_EXTENSION_MAXNAMELEN less the terminating zero
	maxSetName   = 31 // IPSET_MAXNAMELEN less the terminating zero
	maxComment   = 255
	// hashDigits is how much of a hash a name has. Names with the same digits are distinguished by a number.
	hashDigits = 16
	// maxGeneration is room for the generation of a set's name.
	maxGeneration = 3
)

// A base name says what a set or a chain is for, in full: different ones have different base names. Where the kernel's
// names have no room for it all, it is the beginning of the name, the end, and a text of which the name has a
// hash in between, with marks between them.
const mark = "|"

// policySet is the base name of a policy's set in a family.
func policySet(f Family, id policy.SetID) string {
	return fitName(setPrefix(f), string(id), "", maxSetName-maxGeneration)
}

// ownSet is the base name of a set that a class has for the run of rules at a place.
func ownSet(f Family, d policy.Direction, class policy.ClassID, place, what string) string {
	return hashedName(setPrefix(f)+"m", fmt.Sprintf("%s %q %s %s", d, class, place, what), "")
}

// names are the names in the kernel of sets and of chains.
type names struct {
	sets, chains nameTable
	// taken are names that other sets have in the kernel.
	taken map[string]bool
}

func newNames() names { return names{newNameTable(), newNameTable(), map[string]bool{}} }

// setName is the name of a set, from now on: the first that no other set has. A change that had to be made beside
// the set in force gives it another generation, such as tw4-x.1.
func (n names) setName(base string) string {
	name, ok := n.sets.known[base]
	for i := 0; !ok; i++ {
		name = generationName(base, i)
		if ok = n.sets.isFree(name) && !n.taken[name]; ok {
			n.sets.assignName(base, name)
		}
	}
	return name
}

// giveUpName has the set of a base name keep its name for itself; the next one has another.
func (n names) giveUpName(base string) {
	if name, ok := n.sets.known[base]; ok {
		n.taken[name] = true
		n.sets.releaseName(name)
	}
}

// chainName is the name of a chain, from now on: the first that no other chain has.
func (n names) chainName(base string) string {
	name, ok := n.chains.known[base]
	for i := 0; !ok; i++ {
		name = numberedName(base, i, maxChainName)
		if ok = n.chains.isFree(name); ok {
			n.chains.assignName(base, name)
		}
	}
	return name
}

// nameTable holds names in the kernel by base names. Each has one of its own, whatever their hashes are.
type nameTable struct {
	known map[string]string // names by base name
	given map[string]string // base names by name
}

func newNameTable() nameTable { return nameTable{map[string]string{}, map[string]string{}} }

func (t nameTable) isFree(name string) bool {
	_, taken := t.given[name]
	return !taken
}

func (t nameTable) assignName(base, name string) { t.known[base], t.given[name] = name, base }

func (t nameTable) releaseName(name string) {
	delete(t.known, t.given[name])
	delete(t.given, name)
}

func setPrefix(f Family) string { return fmt.Sprintf("tw%d-", f) }

// ourSet reports whether a set is ours, by its name.
func ourSet(name string) bool {
	return slices.ContainsFunc(families[:], func(f Family) bool { return strings.HasPrefix(name, setPrefix(f)) })
}

// generationName is the n-th name of a set.
func generationName(base string, n int) string { return numberedName(base, n, maxSetName) }

// numberedName is the n-th name in the kernel for a base name, with a number from the second on.
func numberedName(base string, n, size int) string {
	name := base
	if head, rest, hashed := strings.Cut(base, mark); hashed {
		tail, text, _ := strings.Cut(rest, mark)
		sum := contenthash.Sum([]byte(text))
		name = head + sum[:min(hashDigits, len(sum))] + tail
	}
	suffix := ""
	if n > 0 {
		suffix = fmt.Sprintf(".%d", n)
	}
	return name[:min(len(name), size-len(suffix))] + suffix
}

// directionInitial is the letter of a direction in the names of chains.
func directionInitial(d policy.Direction) string { return strings.ToUpper(d.String()[:1]) }

// rootChain is where the dispatch of a direction begins.
func rootChain(d policy.Direction) string { return chainPrefix + strings.ToUpper(d.String()) }

// dispatchChain is the base name of the chain of a branch of the dispatch tree. The longest
// IPv4 prefix fits exactly; of IPv6 prefixes the name has a hash.
func dispatchChain(d policy.Direction, p netip.Prefix) string {
	return fitName(chainPrefix+directionInitial(d), p.String(), "", maxChainName)
}

// classChain is the base name of the chain of a class; those of its further parts have a B, C, D appended.
func classChain(d policy.Direction, id policy.ClassID, part int) string {
	tail := ""
	if part > 0 {
		tail = string(rune('A' + part))
	}
	return fitName(chainPrefix+directionInitial(d)+"-", string(id), tail, maxChainName-1)
}

// fitName is the base name of a text between a beginning and an end, hashed where it is not safe in a name or too long.
func fitName(head, text, tail string, size int) string {
	if text != "" && len(head)+len(text) <= size && ruletext.Sanitize(text, ".-_/") == text {
		return head + text + tail
	}
	return hashedName(head, text, tail)
}

// hashedName is the base name of a text of which the name has a hash.
func hashedName(head, text, tail string) string { return head + mark + tail + mark + text }

// commentMatch is a match that says why a rule is there, with a space at its end.
// Whatever the text, it ends neither the quotes nor the line.
func commentMatch(text string) string {
	text = strings.TrimSpace(ruletext.Sanitize(text, ".-_/ ,:=~"))
	if text == "" {
		return ""
	}
	if len(text) > maxComment {
		text = text[:maxComment]
	}
	return `-m comment --comment "` + text + `" `
}
