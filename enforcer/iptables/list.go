package iptables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/policy"
)

// listType is the ipset type of a list of sets, in which an address is that is in any of them.
// With it a rule of many peers and many ports costs their sum.
const listType = "list:set"

// listSet is the base name of the list of a policy's sets, which are sorted. It follows from a whole SHA-256 of their
// IDs, so that a list of one base name always has the same sets, whichever classes refer to it.
func listSet(f Family, ids []policy.SetID) string {
	h := sha256.New()
	for _, id := range ids {
		_, _ = fmt.Fprintf(h, "%q ", id)
	}
	return hashedName(setPrefix(f)+"l", hex.EncodeToString(h.Sum(nil)), "")
}

// listSet is a list of the policy's sets in the family. The names of its sets are those in use now.
func (r *renderer) listSet(base string, ids []policy.SetID) Set {
	return Set{Name: r.names.setName(base), Type: listType, Family: r.family, Lists: listMembers(r.names, r.family, ids)}
}

// listMembers are the names of the policy's sets, sorted.
func listMembers(n names, f Family, ids []policy.SetID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = n.setName(policySet(f, id))
	}
	slices.Sort(out)
	return out
}

func (s Set) isList() bool { return s.Type == listType }

// inLists are the matches of lists of the policy's sets, which the class refers to from now on.
func (b *classBuilder) inLists(ids []policy.SetID) ([]string, error) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var out []string
	for some := range slices.Chunk(ids, limits.list) {
		for _, id := range some {
			if _, err := b.sharedSet(id); err != nil {
				return nil, err
			}
		}
		base := listSet(b.family, some)
		b.out.lists[base] = some
		out = append(out, inSet(b.names.setName(base), setSide(b.Direction)))
	}
	return out, nil
}

func (s Set) createList() string {
	return fmt.Sprintf("create %s %s size %d", s.Name, listType, len(s.Lists))
}

// createdList is an empty list, without a type if it is not as we make it.
func createdList(fields []string, f Family) Set {
	s := Set{Name: fields[1], Family: f}
	if len(fields) == 5 && fields[3] == "size" && !strings.HasPrefix(fields[4], "0") {
		s.Type = listType
	}
	return s
}
