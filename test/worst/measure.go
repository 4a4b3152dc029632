package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/enforcer/iptables"
	"github.com/tierwall/tierwall/enforcer/nftables"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// The cluster that policies are measured in.
const (
	tenant       = "tenant"
	pods         = 96
	localPods    = 24
	applications = 12
	namedPorts   = 8
)

func cluster() *compile.Snapshot {
	s := &compile.Snapshot{Defaults: policy.Defaults{Action: policy.Deny}}
	for i, name := range []string{"here", "there"} {
		s.Nodes = append(s.Nodes, &compile.Node{Name: name, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 168, 0, byte(i + 1)})},
			PodCIDRs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)}})
	}
	for i, name := range []string{tenant, "other", "third"} {
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name, "team": fmt.Sprint("team-", i)}})
	}
	for i := range pods {
		p := &compile.Pod{Namespace: tenant, Name: fmt.Sprint("pod-", i), UID: types.UID(fmt.Sprint(i)), Node: "here",
			Labels: map[string]string{"app": fmt.Sprint("app-", i%applications), "id": fmt.Sprint("id-", i)}}
		at := byte(0)
		if i >= localPods {
			p.Namespace, p.Node, at = s.Namespaces[i%3].Name, "there", 1
		}
		p.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, at, 0, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("fd00:%x::%x", at+1, i+1))}
		for n := range namedPorts {
			p.Ports = append(p.Ports, compile.NamedPort{Name: fmt.Sprint("port-", n), Protocol: policy.TCP, Port: uint16(8000 + 10*n + i%3)})
		}
		s.Pods = append(s.Pods, p)
	}
	return s
}

// Cost is what policies cost, by counting where that is possible.
type Cost struct {
	// Bytes is the size of the policies, Written that of the rules of all classes and of the members of their sets,
	// each counted once for a class, and Endpoints the number of pods on the node.
	Bytes, Written, Classes, Endpoints int
	IPTables, NFTables                 Kernel
	// Rows and EffectBytes are the rows of the effect of creating the policies, and the memory that it took in all.
	Rows        int
	EffectBytes uint64
	EffectTime  time.Duration
	// RenderBytes is the memory that compiling and rendering took in all.
	RenderBytes uint64
	Problems    int
}

// Kernel is what a backend puts in the kernel.
type Kernel struct {
	Rules, Elements, Sets int
	// Lookups is the most that a packet compares and looks up in one chain of a class.
	Lookups int
}

func (k Kernel) entries() int { return k.Rules + k.Elements }

// measurePolicies measures the policies, with the effect if that is asked for.
func measurePolicies(ctx context.Context, p Policies, withEffect bool) (Cost, error) {
	before, after := cluster(), cluster()
	after.NetworkPolicies, after.ClusterNetworkPolicies = p.Namespaced, p.Cluster
	c := Cost{Bytes: p.Bytes}
	var err error
	c.RenderBytes = allocated(func() { err = c.kernels(after) })
	if err != nil || !withEffect {
		return c, err
	}
	start := time.Now()
	c.EffectBytes = allocated(func() {
		e := effect.Compute(ctx, before, after)
		c.Rows = len(e.Added) + len(e.Removed)
	})
	c.EffectTime = time.Since(start)
	return c, nil
}

// allocated is the memory that a function takes in all, whatever of it is freed again.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func (c *Cost) kernels(s *compile.Snapshot) error {
	program, problems := compile.Compile(s, "here")
	c.Problems, c.Endpoints = len(problems), len(program.Endpoints)
	c.Written, c.Classes = written(program)
	var errs []error
	for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		r, err := iptables.Render(program, f, ruletext.DenyLog{})
		errs = append(errs, err)
		c.IPTables.addChains(r)
	}
	r, err := nftables.Render(program, ruletext.DenyLog{})
	c.NFTables.addTable(r)
	return errors.Join(append(errs, err)...)
}

func (k *Kernel) addChains(r iptables.Ruleset) {
	lists := map[string]int{}
	for _, s := range r.Sets {
		k.Sets++
		k.Elements += len(s.Elements) + len(s.Lists)
		lists[s.Name] = len(s.Lists)
	}
	for _, chain := range r.Chains {
		k.Rules += len(chain.Rules)
		lookups, seen := len(chain.Rules), map[string]bool{}
		for _, rule := range chain.Rules {
			for _, word := range strings.Fields(rule) {
				if !seen[word] {
					seen[word] = true
					lookups += lists[word]
				}
			}
		}
		k.Lookups = max(k.Lookups, lookups)
	}
}

func (k *Kernel) addTable(r nftables.Ruleset) {
	for _, s := range r.Sets {
		k.Sets++
		k.Elements += len(s.Elements)
	}
	for _, chain := range r.Chains {
		k.Rules += len(chain.Rules)
		k.Lookups = max(k.Lookups, len(chain.Rules))
	}
}

// written is the size of the rules of all classes, and of their sets, each counted once for a class.
func written(p *policy.Program) (size, classes int) {
	for _, d := range policy.Directions {
		for _, c := range p.Classes[d] {
			classes++
			seen := map[policy.SetID]bool{}
			count := func(id policy.SetID) {
				if s := p.Sets[id]; s != nil && !seen[id] {
					seen[id] = true
					size += len(s.Elements)
				}
			}
			for _, t := range c.Tiers {
				size++
				for _, r := range t.Rules {
					size += 1 + len(r.Peers) + len(r.Ports)
					for _, id := range r.Peers {
						count(id)
					}
					for _, port := range r.Ports {
						count(port.Named)
					}
				}
			}
		}
	}
	return size, classes
}
