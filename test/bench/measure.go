package main

import (
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/bench/workload"
)

// result is what compiling costs in a town, for one of its nodes.
type result struct {
	// anew is a compilation from scratch, first an engine's commit of everything.
	anew, first time.Duration
	// The others are an engine's commits of one change: a pod elsewhere that peers are looked for
	// among gets another address, a pod starts or ends here, a pod elsewhere gets a label, a
	// policy that selects pods here changes.
	elsewhere, here, relabelled, policy time.Duration
}

// changes is how many changes of a kind are measured.
const changes = 300

func measure(size workload.Town) result {
	s := size.Snapshot()
	node := workload.Node(0)
	var r result
	r.anew = quickest(func() { compile.Compile(s, node) })
	e := compile.NewEngine(node, s.Defaults)
	u := s.Update()
	runtime.GC()
	start := time.Now()
	e.Commit(u)
	r.first = time.Since(start)

	here, elsewhere := parted(s, node)
	if len(elsewhere) == 0 {
		elsewhere = here // of a cluster of one node
	}
	r.elsewhere = commits(e, elsewhere, func(p *compile.Pod) *compile.Pod {
		v4, v6 := p.Addrs[0].As4(), p.Addrs[1].As16()
		v4[0], v6[1] = 11, 1 // which nobody has
		moved := *p
		moved.Addrs = []netip.Addr{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}
		return &moved
	})
	r.here = commits(e, here, func(*compile.Pod) *compile.Pod { return nil })
	r.relabelled = commits(e, elsewhere, func(p *compile.Pod) *compile.Pod {
		other := *p
		other.Labels = maps.Clone(p.Labels)
		other.Labels["version"] = "canary"
		return &other
	})
	r.policy = policyCommits(e, s, here)
	runtime.KeepAlive(u)
	return r
}

// parted are the pods of the node and the others.
func parted(s *compile.Snapshot, node string) (here, elsewhere []*compile.Pod) {
	for _, p := range s.Pods {
		if p.Node == node {
			here = append(here, p)
		} else {
			elsewhere = append(elsewhere, p)
		}
	}
	return here, elsewhere
}

// commits is the median time of changing a pod, and of changing it back.
func commits(e *compile.Engine, pods []*compile.Pod, changed func(*compile.Pod) *compile.Pod) time.Duration {
	var updates []*compile.Update
	for i := range changes {
		p := pods[i*len(pods)/changes]
		key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		updates = append(updates,
			&compile.Update{Pods: compile.Objects[compile.Pod]{key: changed(p)}},
			&compile.Update{Pods: compile.Objects[compile.Pod]{key: p}})
	}
	return each(e, updates)
}

// policyCommits is the median time of changing a policy of a namespace that has pods here, and of changing it
// back.
func policyCommits(e *compile.Engine, s *compile.Snapshot, here []*compile.Pod) time.Duration {
	at := map[string]bool{}
	for _, p := range here {
		at[p.Namespace] = true
	}
	candidates := slices.DeleteFunc(slices.Clone(s.NetworkPolicies), func(np *networkingv1.NetworkPolicy) bool { return !at[np.Namespace] })
	var updates []*compile.Update
	for i := 0; i < changes && len(candidates) > 0; i++ {
		np := candidates[i%len(candidates)]
		key := types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
		other := np.DeepCopy()
		other.Spec.Ingress = other.Spec.Ingress[:1]
		for _, np := range []*networkingv1.NetworkPolicy{other, np} {
			updates = append(updates, &compile.Update{NetworkPolicies: compile.Objects[networkingv1.NetworkPolicy]{key: np}})
		}
	}
	return each(e, updates)
}

// each is the median time of the commits.
func each(e *compile.Engine, updates []*compile.Update) time.Duration {
	runtime.GC()
	took := make([]time.Duration, len(updates))
	for i, u := range updates {
		start := time.Now()
		e.Commit(u)
		took[i] = time.Since(start)
	}
	return median(took)
}

// quickest is the least time of the work, of several times unless it takes long: what else the machine
// does only ever adds to it.
func quickest(work func()) time.Duration {
	runtime.GC()
	var least time.Duration
	for n, begin := 0, time.Now(); n == 0 || time.Since(begin) < 2*time.Second && n < 20; n++ {
		start := time.Now()
		work()
		if took := time.Since(start); n == 0 || took < least {
			least = took
		}
	}
	return least
}

func median(values []time.Duration) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}
