package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Recipe says what policies are made of, in numbers that a search can change.
type Recipe struct {
	Parts []Part `json:"parts"`
}

// Part is policies that are made alike.
type Part struct {
	// Cluster makes ClusterNetworkPolicies.
	Cluster bool `json:"cluster,omitempty"`
	Egress  bool `json:"egress,omitempty"`
	// Policies, with so many Rules each, with so many Peers and Ports each.
	Policies int        `json:"policies"`
	Rules    int        `json:"rules"`
	Peers    int        `json:"peers"`
	Ports    int        `json:"ports"`
	Peer     kindOfPeer `json:"peer"`
	Port     kindOfPort `json:"port"`
	// Width is that of ranges of ports, Excepts the number of exceptions of a network.
	Width   int `json:"width,omitempty"`
	Excepts int `json:"excepts,omitempty"`
	// PeerStep and PortStep are how far the peers and ports of a rule begin after those of the rule before: with
	// 0 all rules have the same.
	PeerStep int `json:"peerStep,omitempty"`
	PortStep int `json:"portStep,omitempty"`
	// Actions is how many verdicts the rules of a ClusterNetworkPolicy have in turn.
	Actions int `json:"actions,omitempty"`
	// Subjects is the number of applications whose pods the policies select in turn; with 0 they select all.
	Subjects int `json:"subjects,omitempty"`
}

// kindOfPeer is what the peers of a part are.
type kindOfPeer int

const (
	manyPods kindOfPeer = iota // all pods but one
	onePod
	application
	nobody
	namespaces
	networks
	lengths // networks of every length
	exceptions
	peerKinds
)

// kindOfPort is what the ports of a part are.
type kindOfPort int

const (
	single kindOfPort = iota
	ranges
	named
	protocol
	gaps // two ranges, all ports but one
	portKinds
)

// randomRecipe is one of up to three parts.
func randomRecipe(r *rand.Rand) Recipe {
	var out Recipe
	for range 1 + r.IntN(3) {
		out.Parts = append(out.Parts, randomPart(r))
	}
	return out
}

func randomPart(r *rand.Rand) Part {
	p := Part{
		Cluster: r.IntN(3) == 0, Egress: r.IntN(2) == 0, Policies: size(r), Rules: size(r), Peers: size(r), Ports: size(r),
		Peer: kindOfPeer(r.IntN(int(peerKinds))), Port: kindOfPort(r.IntN(int(portKinds))),
		Width: size(r), Excepts: size(r), PeerStep: r.IntN(4), PortStep: r.IntN(4), Actions: 1 + r.IntN(3), Subjects: r.IntN(5),
	}
	if p.Peer != exceptions {
		p.Excepts = 0
	}
	return p
}

// size is small in most cases, and large in some.
func size(r *rand.Rand) int { return 1 + r.IntN(1<<(1+r.IntN(11))) }

// mutate changes a few numbers of a recipe.
func mutate(r *rand.Rand, from Recipe) Recipe {
	out := Recipe{Parts: slices.Clone(from.Parts)}
	switch n := len(out.Parts); {
	case n < 4 && r.IntN(12) == 0:
		out.Parts = append(out.Parts, randomPart(r))
	case n > 1 && r.IntN(12) == 0:
		i := r.IntN(n)
		out.Parts = slices.Delete(out.Parts, i, i+1)
	}
	for range 1 + r.IntN(3) {
		changePart(r, &out.Parts[r.IntN(len(out.Parts))])
	}
	return out
}

func changePart(r *rand.Rand, p *Part) {
	numbers := []*int{&p.Policies, &p.Rules, &p.Peers, &p.Ports, &p.Width}
	steps := []*int{&p.PeerStep, &p.PortStep, &p.Actions, &p.Subjects}
	switch r.IntN(8) {
	case 0:
		if p.Peer, p.Excepts = kindOfPeer(r.IntN(int(peerKinds))), 0; p.Peer == exceptions {
			p.Excepts = size(r)
		}
	case 1:
		p.Port = kindOfPort(r.IntN(int(portKinds)))
	case 2:
		p.Cluster, p.Egress = r.IntN(3) == 0, r.IntN(2) == 0
	case 3:
		*steps[r.IntN(len(steps))] = r.IntN(6)
	case 4:
		*numbers[r.IntN(len(numbers))] = size(r)
	default:
		n := numbers[r.IntN(len(numbers))]
		*n = max(1, *n*(1+r.IntN(8))/4)
	}
}

func (r Recipe) String() string {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Sprint(r.Parts)
	}
	return string(text)
}
