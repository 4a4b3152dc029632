package main

import (
	"context"
	"math/rand/v2"
)

// goal is something that a search makes as large as it can.
type goal struct {
	name string
	// value is what is made large, of policies that cost so much.
	value func(Cost) float64
	// effect says that the effect is needed for it.
	effect bool
}

func ratio(a, b int) float64 { return float64(a) / float64(max(1, b)) }

var goals = []goal{
	{name: "iptables: rules and elements per entry written", value: func(c Cost) float64 { return ratio(c.IPTables.entries(), c.entries()) }},
	{name: "iptables: rules per byte", value: func(c Cost) float64 { return ratio(c.IPTables.Rules, c.Bytes) }},
	{name: "iptables: sets per byte", value: func(c Cost) float64 { return ratio(c.IPTables.Sets, c.Bytes) }},
	{name: "iptables: lookups per byte", value: func(c Cost) float64 { return ratio(c.IPTables.Lookups, c.Bytes) }},
	{name: "nftables: rules and elements per entry written", value: func(c Cost) float64 { return ratio(c.NFTables.entries(), c.entries()) }},
	{name: "nftables: rules per byte", value: func(c Cost) float64 { return ratio(c.NFTables.Rules, c.Bytes) }},
	{name: "nftables: lookups per byte", value: func(c Cost) float64 { return ratio(c.NFTables.Lookups, c.Bytes) }},
	{name: "agent: memory taken per entry written", value: func(c Cost) float64 { return float64(c.RenderBytes) / float64(c.entries()) }},
	{name: "effect: memory taken per byte", value: func(c Cost) float64 { return float64(c.EffectBytes) / float64(max(1, c.Bytes)) }, effect: true},
}

// entries is what was written, and what a node has without any policy.
func (c Cost) entries() int { return c.Written + c.Endpoints + c.Classes }

// found is the worst that was found.
type found struct {
	Recipe Recipe
	Cost   Cost
	value  float64
	tries  int
}

// climb is a search by hill climbing: it goes on from the worst that it found, and now and then from anew. It ends with the context,
// or after so many tries.
type climb struct {
	goal
	rand  *rand.Rand
	limit int
	// progress is called with each new worst.
	progress func(found)
	worst    []found
}

// keep is how many of the worst are kept.
const keep = 32

func (c *climb) run(ctx context.Context, tries int) error {
	current := found{value: -1}
	stuck := 0
	for n := 1; n <= tries && ctx.Err() == nil; n++ {
		recipe := randomRecipe(c.rand)
		if current.value >= 0 && stuck < 60 {
			recipe = mutate(c.rand, current.Recipe)
		} else {
			current, stuck = found{value: -1}, 0
		}
		p := recipe.make(c.limit)
		if p.Bytes == 0 {
			continue
		}
		cost, err := measurePolicies(ctx, p, c.effect)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		next := found{Recipe: recipe, Cost: cost, value: c.value(cost), tries: n}
		if stuck++; next.value > current.value {
			current, stuck = next, 0
			c.remember(next)
		}
	}
	return nil
}

// remember keeps what is among the worst.
func (c *climb) remember(f found) {
	if len(c.worst) == 0 || f.value > c.worst[0].value {
		c.worst = append([]found{f}, c.worst...)
		if c.progress != nil {
			c.progress(f)
		}
	} else {
		c.worst = append(c.worst, f)
	}
	if len(c.worst) > keep {
		c.worst = c.worst[:keep]
	}
}
