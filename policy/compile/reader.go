package compile

import (
	"slices"
	"sync"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
)

// Reader compiles many snapshots that have policies in common, and reads each policy once. It is safe
// for concurrent use; policies must not be changed. It remembers all that it read: whoever goes on
// for long takes a new one from time to time.
type Reader struct {
	mu              sync.Mutex
	numbered        uint64 // how many policies were read
	networkPolicies map[*networkingv1.NetworkPolicy]*networkPolicy
	clusterPolicies map[*policyv1alpha2.ClusterNetworkPolicy]*clusterPolicy
}

// NewReader makes a Reader that has read nothing yet.
func NewReader() *Reader {
	return &Reader{networkPolicies: map[*networkingv1.NetworkPolicy]*networkPolicy{},
		clusterPolicies: map[*policyv1alpha2.ClusterNetworkPolicy]*clusterPolicy{}}
}

// read are the policies, as parsePolicies gives them.
func (r *Reader) read(nps []*networkingv1.NetworkPolicy, cnps []*policyv1alpha2.ClusterNetworkPolicy) *policies {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &policies{namespaced: map[string][]*networkPolicy{}, cluster: make([]*clusterPolicy, 0, len(cnps))}
	for _, np := range nps {
		p := r.networkPolicies[np]
		if p == nil {
			p, _ = parseNetworkPolicy(np)
			r.numbered++
			p.number, r.networkPolicies[np] = r.numbered, p
		}
		out.namespaced[np.Namespace] = append(out.namespaced[np.Namespace], p)
	}
	for _, cnp := range cnps {
		p := r.clusterPolicies[cnp]
		if p == nil {
			p, _ = parseClusterNetworkPolicy(cnp)
			r.numbered++
			p.number, r.clusterPolicies[cnp] = r.numbered, p
		}
		out.cluster = append(out.cluster, p)
	}
	for _, list := range out.namespaced {
		slices.SortFunc(list, compareNetworkPolicies)
	}
	slices.SortFunc(out.cluster, compareClusterPolicies)
	return out
}

// Cluster is the objects of a snapshot without its policies, to be compiled with several lists of policies.
// What does not depend on these is done once. It is not safe for concurrent use.
type Cluster struct {
	*cluster
	reader  *Reader
	node    string
	classes *classifier
	sets    map[policy.SetID]*policy.Set
	frame   policy.Program // without what policies say
}

// Cluster prepares the snapshot's pods, namespaces, nodes and TierRoles, for the endpoints of all nodes.
func (r *Reader) Cluster(s *Snapshot) *Cluster {
	c := newCompiled(s, "")
	c.reader = r
	return c
}

func newCompiled(s *Snapshot, node string) *Cluster {
	c := newCluster(s)
	return &Cluster{cluster: c, node: node, classes: newClassifier(s.Defaults), sets: map[policy.SetID]*policy.Set{},
		frame: policy.Program{Hosts: hosts(c.nodes), Local: local(c.nodes, node), Unknown: unknown(s.Defaults)}}
}

// Compile is the program that the function Compile gives of the cluster with the policies. Programs
// share what they have in common, and must not be changed.
func (c *Cluster) Compile(nps []*networkingv1.NetworkPolicy, cnps []*policyv1alpha2.ClusterNetworkPolicy) *policy.Program {
	return c.program(c.reader.read(nps, cnps))
}

func (c *Cluster) program(ps *policies) *policy.Program {
	p := c.frame
	p.Classes, p.Sets = [2]map[policy.ClassID]*policy.Class{{}, {}}, map[policy.SetID]*policy.Set{}
	for _, pod := range c.pods {
		if c.node != "" && pod.Node != c.node {
			continue
		}
		e := policy.Endpoint{Namespace: pod.Namespace, Name: pod.Name, Node: pod.Node, Addrs: pod.addrs}
		e.Class = c.classes.of(subject{pod.Namespace, pod.Ports}, ps.selecting(pod, c.namespaces[pod.Namespace]))
		p.Endpoints = append(p.Endpoints, e)
		for d, id := range e.Class {
			if p.Classes[d][id] == nil {
				p.Classes[d][id] = c.classes.built[d][id]
				c.addSets(p.Sets, p.Classes[d][id])
			}
		}
	}
	return &p
}

// addSets adds the sets that a class refers to.
func (c *Cluster) addSets(to map[policy.SetID]*policy.Set, class *policy.Class) {
	add := func(id policy.SetID) {
		if c.sets[id] == nil {
			c.sets[id] = c.classes.sets[id].set(c.cluster)
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
