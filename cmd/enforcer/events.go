package main

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// repairEvents has each repair of the rules shown as an Event of the Node. Repairs that follow one another
// become one Event that is counted.
func repairEvents(mgr manager.Manager, node string) func() {
	recorder := mgr.GetEventRecorder("tierwall-enforcer")
	// The kubelet, too, gives the node's name for its UID in Events.
	of := &corev1.Node{}
	of.APIVersion, of.Kind, of.Name, of.UID = "v1", "Node", node, types.UID(node)
	return func() {
		recorder.Eventf(of, nil, corev1.EventTypeWarning, "RulesRepaired", "Repair",
			"Somebody changed the packet filter's rules of tierwall on this node; they were mended")
	}
}
