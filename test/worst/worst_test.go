package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bound is that of invariant 11 for a backend, by entry that was written or member of a set, each counted once for a
// class: of entries in the kernel in both IP families, and of lookups of a packet.
type bound struct{ entriesPerEntry, lookupsPerEntry, lookupsOfAny int }

// With iptables a range of ports can be 17 rules in each IP family. With nftables the members and the ports of small
// policies can be merged in one set, a small multiple of both.
var (
	iptablesBound = bound{entriesPerEntry: 2 * 17, lookupsPerEntry: 2, lookupsOfAny: 60}
	nftablesBound = bound{entriesPerEntry: 8, lookupsPerEntry: 1, lookupsOfAny: 60}
)

func checkBound(t *testing.T, name string, c Cost) {
	t.Helper()
	iptablesBound.check(t, name+" with iptables", c, c.IPTables)
	nftablesBound.check(t, name+" with nftables", c, c.NFTables)
}

func (b bound) check(t *testing.T, name string, c Cost, k Kernel) {
	t.Helper()
	if k.entries() == 0 {
		t.Errorf("%s: nothing is rendered", name)
	}
	if k.entries() > b.entriesPerEntry*c.entries() {
		t.Errorf("%s: %d entries written come to %d rules and %d elements", name, c.Written, k.Rules, k.Elements)
	}
	if k.Lookups > b.lookupsPerEntry*c.Written+b.lookupsOfAny {
		t.Errorf("%s: %d entries written take a packet %d lookups", name, c.Written, k.Lookups)
	}
	if k.Sets > c.entries() {
		t.Errorf("%s: %d entries written come to %d sets", name, c.Written, k.Sets)
	}
}

// The worst that earlier searches found, at two sizes.
func TestTheWorstThatWasFoundIsInProportion(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d recipes: %v", len(paths), err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var r Recipe
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int{8000, 32_000} {
			c, err := measurePolicies(t.Context(), r.make(limit), false)
			if err != nil {
				t.Fatal(err)
			}
			checkBound(t, path, c)
		}
	}
}

// A search from anew does not find what exceeds the bounds, and finds worse than it began with.
func TestASearchFindsNothingOutOfProportion(t *testing.T) {
	for i, g := range goals {
		if !strings.HasPrefix(g.name, "iptables") && !strings.HasPrefix(g.name, "nftables") {
			continue
		}
		first := 0.0
		c := climb{goal: g, rand: rand.New(rand.NewPCG(1, uint64(i))), limit: 6000, progress: func(f found) {
			if first == 0 {
				first = f.value
			}
			checkBound(t, f.Recipe.String(), f.Cost)
		}}
		if err := c.run(t.Context(), 60); err != nil {
			t.Fatal(err)
		}
		if c.worst[0].value <= first {
			t.Errorf("%s: the search found nothing worse than what it began with, %.3g", g.name, first)
		}
	}
}

// The policies of a recipe are within their size, are understood as a whole, and are the same each time.
func TestRecipesMakePoliciesThatAreUnderstood(t *testing.T) {
	r, cluster := rand.New(rand.NewPCG(3, 3)), 0
	for range 60 {
		recipe := randomRecipe(r)
		p := recipe.make(8000)
		if p.Bytes > 8000 {
			t.Errorf("%s has %d bytes", recipe, p.Bytes)
		}
		again, err := recipe.make(8000).manifests()
		if err != nil {
			t.Fatal(err)
		}
		if once, _ := p.manifests(); string(once) != string(again) {
			t.Errorf("%s makes other policies the second time", recipe)
		}
		c, err := measurePolicies(t.Context(), p, false)
		if err != nil || c.Problems > 0 {
			t.Errorf("%s: %d problems, %v", recipe, c.Problems, err)
		}
		cluster += len(p.Cluster)
	}
	if cluster == 0 {
		t.Error("no ClusterNetworkPolicy was made")
	}
}
