package compile

import (
	"context"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
)

// Policy is a NetworkPolicy or a ClusterNetworkPolicy that was read. It is not changed by compiling it.
type Policy struct {
	namespaced *networkPolicy
	cluster    *clusterPolicy
}

// ReadNetworkPolicy reads a policy, which must not be changed afterwards.
func ReadNetworkPolicy(np *networkingv1.NetworkPolicy) *Policy {
	p, _ := parseNetworkPolicy(np)
	return &Policy{namespaced: p}
}

// ReadClusterNetworkPolicy reads a policy, which must not be changed afterwards.
func ReadClusterNetworkPolicy(cnp *policyv1alpha2.ClusterNetworkPolicy) *Policy {
	p, _ := parseClusterNetworkPolicy(cnp)
	return &Policy{cluster: p}
}

// Cluster is the objects of a snapshot without its policies, to be compiled with several lists of policies.
// What does not depend on these is done once. It is not safe for concurrent use.
type Cluster struct {
	*cluster
	node     string
	numbered map[*Policy]Policy // the policies so far, with numbers of their own
	classes  *classifier
	sets     map[policy.SetID]*policy.Set
	frame    policy.Program // without what policies say
}

// NewCluster takes the snapshot's pods, namespaces, nodes and TierRoles, for the endpoints of one node, or of all
// nodes when the name is empty.
func NewCluster(s *Snapshot, node string) *Cluster {
	c := newCluster(s)
	return &Cluster{cluster: c, node: node, numbered: map[*Policy]Policy{}, classes: newClassifier(s.Defaults), sets: map[policy.SetID]*policy.Set{},
		frame: policy.Program{Hosts: hosts(c.nodes, c.networks), Local: local(c.nodes, node), Unknown: unknown(s.Defaults)}}
}

// Compile is the program that the function Compile gives of the cluster with the policies, in whatever order. Programs
// share what they have in common, and must not be changed. It returns the context's error where that ends before.
func (c *Cluster) Compile(ctx context.Context, all []*Policy) (*policy.Program, error) {
	ps := &policies{namespaced: map[string][]*networkPolicy{}}
	for _, p := range all {
		switch own := c.number(p); {
		case own.cluster != nil:
			ps.cluster = append(ps.cluster, own.cluster)
		default:
			in := own.namespaced.id.Namespace
			ps.namespaced[in] = append(ps.namespaced[in], own.namespaced)
		}
	}
	for _, list := range ps.namespaced {
		slices.SortFunc(list, compareNetworkPolicies)
	}
	slices.SortFunc(ps.cluster, compareClusterPolicies)
	p, _, err := c.program(ctx, ps)
	return p, err
}

// number is the policy with the number that tells it from all others of this cluster.
func (c *Cluster) number(p *Policy) Policy {
	own, ok := c.numbered[p]
	if ok {
		return own
	}
	n := uint64(len(c.numbered))
	if p.cluster != nil {
		cp := *p.cluster
		cp.number, own.cluster = n, &cp
	} else {
		np := *p.namespaced
		np.number, own.namespaced = n, &np
	}
	c.numbered[p] = own
	return own
}

func (c *Cluster) program(ctx context.Context, ps *policies) (*policy.Program, []policy.Problem, error) {
	p := c.frame
	p.Classes, p.Sets = [2]map[policy.ClassID]*policy.Class{{}, {}}, map[policy.SetID]*policy.Set{}
	local, over, err := c.selectLocal(ctx, ps)
	if err != nil {
		return nil, nil, err
	}
	for _, l := range local {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		e := policy.Endpoint{Namespace: l.Namespace, Name: l.Name, Node: l.Node, Addrs: l.addrs}
		e.Class = c.classes.of(subject{l.Namespace, l.Ports, over[l.Namespace] != nil}, l.selecting)
		p.Endpoints = append(p.Endpoints, e)
		for d, id := range e.Class {
			if p.Classes[d][id] == nil {
				p.Classes[d][id] = c.classes.built[d].All()[id]
				c.addSets(p.Sets, p.Classes[d][id])
			}
		}
	}
	var problems []policy.Problem
	for _, found := range over {
		problems = append(problems, *found)
	}
	return &p, problems, nil
}

// addSets adds the sets that a class refers to.
func (c *Cluster) addSets(to map[policy.SetID]*policy.Set, class *policy.Class) {
	add := func(id policy.SetID) {
		if c.sets[id] == nil {
			c.sets[id] = c.classes.sets.All()[id].set(id, c.cluster)
		}
		to[id] = c.sets[id]
	}
	for _, t := range class.Tiers {
		for _, r := range t.Rules {
			for _, id := range r.Peers {
				add(id)
			}
			for _, p := range r.Ports {
				if p.Named != "" {
					add(p.Named)
				}
			}
		}
	}
}
