package effect

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

func compareRows(a, b Row) int {
	if c := compareText(string(a.Direction), string(b.Direction)); c != 0 {
		return c
	}
	if c := comparePeers(&a.To, &b.To); c != 0 {
		return c
	}
	if c := comparePeers(&a.From, &b.From); c != 0 {
		return c
	}
	return cmp.Or(slices.Compare(a.Ports, b.Ports), slices.CompareFunc(a.Via, b.Via, compareRefs))
}

func comparePeers(a, b *Peer) int {
	c := cmp.Or(
		compareText(string(a.Kind), string(b.Kind)), compareText(a.Namespace, b.Namespace),
		compareText(a.Role, b.Role), compareText(a.Name, b.Name))
	if c != 0 {
		return c
	}
	return cmp.Or(compareLabels(a.Labels, b.Labels), compareLabels(a.NamespaceLabels, b.NamespaceLabels))
}

func compareLabels(a, b map[string]string) int {
	if maps.Equal(a, b) {
		return 0
	}
	return compareText(labelsKey(a), labelsKey(b))
}

func compareRefs(a, b Ref) int {
	return cmp.Or(compareText(a.Policy, b.Policy), compareText(a.Rule, b.Rule), compareText(a.By, b.By))
}

func compareIsolations(a, b Isolation) int {
	return cmp.Or(compareText(string(a.Direction), string(b.Direction)), comparePeers(&a.Subject, &b.Subject))
}

func compareText(a, b string) int { return strings.Compare(a, b) }
