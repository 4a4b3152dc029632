package ipt

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	// maxGeneration is room for the generation of a set's name.
	maxGeneration = 3
)

// policySet is the base name of a policy's set in a family.
func policySet(f Family, id policy.SetID) string {
	prefix := setPrefix(f)
	return prefix + fit(string(id), maxSetName-len(prefix)-maxGeneration)
}

// ownSet is the base name of a set that a class has for the run of rules at a place.
func ownSet(f Family, d policy.Direction, class policy.ClassID, place, what string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %s %s", d, class, place, what))
	return setPrefix(f) + "m" + hex.EncodeToString(sum[:10])
}

// names are the names of sets by their base names, which they have unless a change had to be
// made beside the set in force; then they have a generation appended, such as tw4-x.1.
type names struct {
	known map[string]string
	// taken are names that other sets have in the kernel.
	taken map[string]bool
}

func newNames() names { return names{map[string]string{}, map[string]bool{}} }

// of is the name of a set, from now on.
func (n names) of(base string) string {
	if name, ok := n.known[base]; ok {
		return name
	}
	i := 0
	for n.taken[generation(base, i)] {
		i++
	}
	n.known[base] = generation(base, i)
	return n.known[base]
}

// leave has the set of a base name keep its name for itself; the next one has another.
func (n names) leave(base string) {
	if name, ok := n.known[base]; ok {
		n.taken[name] = true
		delete(n.known, base)
	}
}

func setPrefix(f Family) string { return fmt.Sprintf("tw%d-", f) }

// ourSet says whether a set is ours, by its name.
func ourSet(name string) bool {
	return slices.ContainsFunc(families[:], func(f Family) bool { return strings.HasPrefix(name, setPrefix(f)) })
}

// generation is the n-th name of a set; the first is the name itself.
func generation(name string, n int) string {
	if n == 0 {
		return name
	}
	return fmt.Sprintf("%s.%d", name, n)
}

// initial is the letter of a direction in the names of chains.
func initial(d policy.Direction) string { return strings.ToUpper(d.String()[:1]) }

// rootChain is where the dispatch of a direction begins.
func rootChain(d policy.Direction) string { return chainPrefix + strings.ToUpper(d.String()) }

// dispatchChain is the chain of a branch of the dispatch tree. The longest
// IPv4 prefix fits exactly; IPv6 prefixes are hashed.
func dispatchChain(d policy.Direction, p netip.Prefix) string {
	name := chainPrefix + initial(d)
	return name + fit(p.String(), maxChainName-len(name))
}

// classChain is the chain of a class; those of its further parts have a B, C, D appended.
func classChain(d policy.Direction, id policy.ClassID, part int) string {
	name := chainPrefix + initial(d) + "-"
	name += fit(string(id), maxChainName-len(name)-1)
	if part == 0 {
		return name
	}
	return name + string(rune('A'+part))
}

// fit is the text itself where it is safe in a name and short enough, and else a hash of it.
func fit(text string, size int) string {
	if text != "" && len(text) <= size && sanitize(text, ".-_/") == text {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:min(size, 16)]
}

// comment is a match that says why a rule is there, with a space at its end.
// Whatever the text, it ends neither the quotes nor the line.
func comment(text string) string {
	text = strings.TrimSpace(sanitize(text, ".-_/ ,:=~"))
	if text == "" {
		return ""
	}
	if len(text) > maxComment {
		text = text[:maxComment]
	}
	return `-m comment --comment "` + text + `" `
}

// sanitize replaces every byte but letters, digits and the extra ones by an underscore.
func sanitize(text, extra string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case strings.ContainsRune(extra, r):
			return r
		default:
			return '_'
		}
	}, text)
}
