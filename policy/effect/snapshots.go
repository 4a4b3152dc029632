package effect

import (
	"reflect"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/tierwall/tierwall/policy/compile"
)

// clusterState is one of the two states of the cluster that are compared.
type clusterState int

const (
	stateBefore clusterState = iota
	stateAfter
)

var bothStates = [...]clusterState{stateBefore, stateAfter}

func onlyPolicies(before, after *compile.Snapshot) bool {
	return sameList(before.Pods, after.Pods) && sameList(before.Namespaces, after.Namespaces) && sameList(before.Nodes, after.Nodes) &&
		sameList(before.TierRoles, after.TierRoles) && reflect.DeepEqual(before.Defaults, after.Defaults)
}

func onlyNetworkPolicies(before, after *compile.Snapshot) bool {
	return onlyPolicies(before, after) && sameList(before.ClusterNetworkPolicies, after.ClusterNetworkPolicies)
}

// relabelledPod returns the one pod by whose labels alone two snapshots differ; nil if they differ otherwise.
func relabelledPod(before, after *compile.Snapshot) (was, is *compile.Pod) {
	if len(before.Pods) != len(after.Pods) || !sameElements(before.NetworkPolicies, after.NetworkPolicies) || !sameList(before.Namespaces, after.Namespaces) ||
		!sameList(before.Nodes, after.Nodes) || !sameList(before.TierRoles, after.TierRoles) || !sameList(before.ClusterNetworkPolicies, after.ClusterNetworkPolicies) {
		return nil, nil
	}
	for i, p := range before.Pods {
		if q := after.Pods[i]; p != q {
			other := *q
			other.Labels = p.Labels
			if was != nil || !reflect.DeepEqual(&other, p) || p.HostNetwork || p.Ended {
				return nil, nil
			}
			was, is = p, q
		}
	}
	return was, is
}

func sameElements[T comparable](a, b []T) bool { return sameList(a, b) || slices.Equal(a, b) }

// sameList reports whether two lists share memory, which is fast to tell.
func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// isWithinBudgets reports whether the NetworkPolicies of a namespace exceed no budget of the namespace or of a class.
// If it is false, any of them may be closed only because of the others.
func isWithinBudgets(s *compile.Snapshot, namespace string) bool {
	var policies []*networkingv1.NetworkPolicy
	for _, np := range s.NetworkPolicies {
		if np.Namespace == namespace {
			policies = append(policies, np)
		}
	}
	return compile.NamespaceWithinBudgets(policies)
}
