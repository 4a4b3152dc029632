package nftables

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"testing"
)

const printed = `{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
{"table": {"family": "inet", "name": "tierwall", "handle": 1, "flags": "dormant"}},
{"set": {"family": "inet", "name": "a", "table": "tierwall", "type": ["ipv4_addr", "inet_proto", "inet_service"], "handle": 3, "flags": ["interval"],
 "elem": [{"concat": [{"prefix": {"addr": "10.0.0.0", "len": 8}}, 6, {"range": [80, 90]}]}, {"concat": [{"range": ["10.0.0.0", "10.0.1.7"]}, 17, 80]}]}},
{"set": {"family": "inet", "name": "n", "table": "tierwall", "type": "ipv4_addr", "handle": 3, "flags": ["interval"],
 "elem": [{"prefix": {"addr": "10.0.0.0", "len": 9}}, {"prefix": {"addr": "10.128.0.0", "len": 9}}, "10.9.9.9"]}},
{"set": {"family": "inet", "name": "timed", "table": "tierwall", "type": "ipv4_addr", "handle": 3, "flags": ["timeout"], "elem": ["10.0.0.1"]}},
{"map": {"family": "inet", "name": "m", "table": "tierwall", "type": "ipv6_addr", "handle": 7, "map": "verdict",
 "elem": [[{"elem": {"val": "::1.2.3.4", "comment": "a/b"}}, {"goto": {"target": "c"}}], ["fd00::1", {"drop": null}]]}},
{"map": {"family": "inet", "name": "marks", "table": "tierwall", "type": "ipv4_addr", "handle": 7, "map": "mark", "elem": []}},
{"chain": {"family": "inet", "table": "tierwall", "name": "forward", "handle": 5, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
{"rule": {"family": "inet", "table": "tierwall", "chain": "forward", "handle": 8, "comment": "why", "expr": [{"return": null}]}}]}`

func TestTheTableIsReadAsNftPrintsIt(t *testing.T) {
	l, err := parseListing([]byte(printed))
	if err != nil {
		t.Fatal(err)
	}
	if !l.there || !l.dormant || l.isProgrammed() {
		t.Errorf("there %v, dormant %v", l.there, l.dormant)
	}
	for name, want := range map[string][]string{
		"a": {"10.0.0.0-10.0.1.7 . 17 . 80", "10.0.0.0/8 . 6 . 80-90"}, "n": {"10.0.0.0/8"}, "m": {"::102:304", "fd00::1"},
	} {
		if got := slices.Sorted(maps.Keys(l.sets[name].Elements)); !slices.Equal(got, want) || l.sets[name].Type == "" {
			t.Errorf("%s: %q of type %q, want %q", name, got, l.sets[name].Type, want)
		}
	}
	if got := l.sets["m"].Elements["::102:304"]; got != (Element{"goto c", "a/b"}) {
		t.Errorf("the verdict of a key: %+v", got)
	}
	for _, name := range []string{"timed", "marks"} {
		if s, there := l.sets[name]; !there || s.Type != "" {
			t.Errorf("%s is taken for one that we could have made: %+v", name, s)
		}
	}
	if c := l.chains["forward"]; !c.standsAs("forward") {
		t.Errorf("the base chain: %+v", c)
	}
	if _, err := parseListing([]byte("Error: out of memory")); err == nil {
		t.Error("an error is taken for a table")
	}
}
func parseListing(text []byte) (listing, error) { return readListing(bytes.NewReader(text), nil) }

func TestAListingSharesTheElementsOfSetsThatAreAsWanted(t *testing.T) {
	const printed = `{"nftables": [{"table": {"name": "tierwall"}},
		{"set": {"name": "a.1", "type": "ipv4_addr", "elem": ["10.0.0.1"]}}, {"set": {"name": "b", "type": "ipv4_addr", "elem": ["10.0.0.2"]}}]}`
	want := newRuleset()
	for _, name := range []string{"a", "b"} {
		want.Sets[name] = Set{Type: "ipv4_addr", Elements: map[string]Element{"10.0.0.1": {}}}
	}
	l, err := readListing(bytes.NewReader([]byte(printed)), &want)
	if err != nil {
		t.Fatal(err)
	}
	if base := baseName("a.1"); base != "a" {
		t.Fatalf("the base of a generation is %s", base)
	}
	shares := func(listed, wanted string) bool {
		return reflect.ValueOf(l.sets[listed].Elements).Pointer() == reflect.ValueOf(want.Sets[wanted].Elements).Pointer()
	}
	if !shares("a.1", "a") || shares("b", "b") || l.sets["b"].Elements["10.0.0.2"] != (Element{}) || len(l.sets["b"].Elements) != 1 {
		t.Errorf("listed %+v", l.sets)
	}
}

func TestAListingThatEndsEarlyIsAnError(t *testing.T) {
	const printed = `{"nftables": [{"table": {"name": "tierwall"}}, {"chain": {"name": "a"}}]}`
	for n := range len(printed) {
		if _, err := parseListing([]byte(printed[:n])); err == nil {
			t.Errorf("%q is read", printed[:n])
		}
	}
}
