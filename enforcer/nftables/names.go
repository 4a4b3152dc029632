package nftables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// tableName is our one table, of family inet.
const tableName = "tierwall"

const (
	// maxName is shorter than nftables allows (NFT_NAME_MAXLEN), with room for a full-width ID.
	maxName = 100
	// maxComment is NFTNL_UDATA_COMMENT_MAXLEN less the terminating zero.
	maxComment = 127
)

// Names give sets and maps that had to be made beside others their generation;
// those that are not there have the first. Base names have no dot.
type names map[string]int

// nameOf is the name in the kernel of a set or map, given its base name.
func (n names) nameOf(base string) string { return generationName(base, n[base]) }

func generationName(base string, n int) string {
	if n == 0 {
		return base
	}
	return fmt.Sprintf("%s.%d", base, n)
}

// baseName is the name without its generation.
func baseName(name string) string {
	base, _, _ := strings.Cut(name, ".")
	return base
}

// dispatchMap leads from the addresses of a direction's endpoints to their classes.
func dispatchMap(f family, d policy.Direction) string { return fmt.Sprintf("%s-map-%d", d, f) }

// dispatchChain is the chain that looks them up.
func dispatchChain(f family, d policy.Direction) string { return fmt.Sprintf("%s-%d", d, f) }

// setName is the base name of a policy's set in a family.
func setName(f family, id policy.SetID) string {
	return fmt.Sprintf("set%d-%s", f, fitName(string(id)))
}

// classChain is the chain of a class; those of its further parts have b, c, d appended.
func classChain(f family, d policy.Direction, id policy.ClassID, part int) string {
	name := fmt.Sprintf("%s%d-%s", d.String()[:2], f, fitName(string(id)))
	if part == 0 {
		return name
	}
	return fmt.Sprintf("%s-part%d", name, part)
}

// fitName is the text itself where it is safe in a name and short enough, and else a full-width hash of it.
func fitName(text string) string {
	if text != "" && len(text) <= maxName && ruletext.Sanitize(text, "-_") == text {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return "x" + hex.EncodeToString(sum[:])
}

// safeComment is a text that is safe between quotes and short enough.
func safeComment(text string) string {
	text = strings.TrimSpace(ruletext.Sanitize(text, ".-_/ ,:=~"))
	if len(text) > maxComment {
		text = text[:maxComment]
	}
	return text
}

// generationOf is the generation of a name.
func generationOf(base, name string) int {
	if name == base {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, base+"."))
	if err != nil || generationName(base, n) != name {
		return -1
	}
	return n
}
