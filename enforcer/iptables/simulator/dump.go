package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Dump is everything that the table and its sets hold, in one order.
func (t *Table) Dump() string {
	var b strings.Builder
	for _, name := range t.Sets() {
		s := t.sets[name]
		fmt.Fprintf(&b, "create %s %s family %s\n", name, s.kind, s.family)
		for _, member := range slices.Sorted(slices.Values(s.members)) {
			fmt.Fprintf(&b, "add %s %s\n", name, member)
		}
		for _, e := range slices.Sorted(maps.Keys(s.elements)) {
			flag := ""
			if !s.elements[e] {
				flag = " nomatch"
			}
			fmt.Fprintf(&b, "add %s %s%s\n", name, e, flag)
		}
	}
	for _, name := range t.Chains() {
		fmt.Fprintf(&b, ":%s\n", name)
		for _, r := range t.chains[name] {
			fmt.Fprintf(&b, "-A %s %s\n", name, r.text)
		}
	}
	return b.String()
}
