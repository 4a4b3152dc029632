package workload

import (
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

func uid(i int) types.UID {
	return types.UID(fmt.Sprintf("%08x-%04x-4000-8000-%012x", uint32(i)*2654435761, i&0xffff, i))
}

// Snapshot is the town as the compiler sees it.
func (t Town) Snapshot() *compile.Snapshot {
	return &compile.Snapshot{
		Defaults:               policy.Defaults{Action: policy.Deny, Exempt: []string{"kube-system"}},
		Pods:                   list(t.Pods, func(i int) *compile.Pod { return clustercache.Pod(t.Pod(i)) }),
		Namespaces:             list(t.Namespaces(), func(i int) *compile.Namespace { return clustercache.Namespace(t.Namespace(i)) }),
		Nodes:                  list(t.Nodes(), func(i int) *compile.Node { return clustercache.Node(t.NodeObject(i)) }),
		NetworkPolicies:        list(t.Policies, t.Policy),
		ClusterNetworkPolicies: list(t.ClusterPolicies(), t.ClusterPolicy),
		TierRoles:              list(t.TierRoles(), t.TierRole),
	}
}

func list[O any](n int, object func(int) *O) []*O {
	out := make([]*O, n)
	for i := range out {
		out[i] = object(i)
	}
	return out
}
