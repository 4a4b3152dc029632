package rego

import (
	"encoding/json"

	"github.com/tierwall/tierwall/policy/effect"
)

// example is a policy that opens the data tier to other namespaces and to the world.
var example = Input{
	Source: Admission,
	Request: Request{
		Operation: "CREATE",
		Kind:      GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"},
		Namespace: "prod", Name: "open-data",
		UserInfo: UserInfo{Username: "ann", Groups: []string{"system:authenticated"}},
	},
	Object: json.RawMessage(`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy",
		"metadata":{"name":"open-data","namespace":"prod"},
		"spec":{"podSelector":{"matchLabels":{"app":"db"}},"policyTypes":["Ingress"],
			"ingress":[{"from":[{"namespaceSelector":{}},{"ipBlock":{"cidr":"0.0.0.0/0"}}],"ports":[{"port":5432}]}]}}`),
	Namespace: Namespace{Name: "prod", Labels: map[string]string{"environment": "prod"}},
	Effect: effect.Effect{
		Complete: true, Incomplete: []string{},
		Added: []effect.Row{
			exampleRow(effect.Peer{Kind: effect.Workload, Namespace: "test", Name: "web-1", Role: "frontend", Pods: 2,
				NamespaceLabels: map[string]string{"environment": "test"}, Labels: map[string]string{"app": "web"}}),
			exampleRow(effect.Peer{Kind: effect.Class, NamespaceLabels: map[string]string{}, Labels: map[string]string{}}),
			exampleRow(effect.Peer{Kind: effect.CIDR, Name: "0.0.0.0/0",
				NamespaceLabels: map[string]string{}, Labels: map[string]string{}}),
		},
		Removed:          []effect.Row{},
		NewlyIsolated:    []effect.Isolation{{Direction: effect.Ingress, Subject: exampleData}},
		NoLongerIsolated: []effect.Isolation{},
		Roles:            effect.Roles{Added: map[string]map[string][]string{"frontend": {"data": {"TCP/5432"}}}},
		Lint: effect.Lint{DeadPeers: []effect.Ref{}, NearMatches: []effect.NearMatch{}, NamedPortsUnresolved: []effect.Ref{}, ShadowedBy: []effect.Ref{},
			RedundantWith: []effect.Ref{}, PriorityTies: []effect.Ref{}},
	},
}

var exampleData = effect.Peer{Kind: effect.Workload, Namespace: "prod", Name: "db-0", Role: "data", Pods: 1,
	NamespaceLabels: map[string]string{"environment": "prod"}, Labels: map[string]string{"app": "db"}}

func exampleRow(from effect.Peer) effect.Row {
	return effect.Row{
		Direction: effect.Ingress, From: from, To: exampleData, Ports: []string{"TCP/5432"}, Potential: from.Pods == 0,
		Via: []effect.Ref{{Policy: "NetworkPolicy prod/open-data", Rule: "/spec/ingress/0"}},
	}
}
