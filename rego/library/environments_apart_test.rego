package tierwall.guardrails.environments_apart_test

import data.tierwall.guardrails.environments_apart

pod(kind, namespace, labels) := {"kind": kind, "namespace": namespace, "namespaceLabels": labels, "role": ""}

prod := pod("workload", "prod", {"environment": "prod", "stage": "live"})

staging := pod("workload", "test", {"environment": "test", "stage": "live"})

shared := pod("workload", "kube-system", {})

change(from, to, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": "ingress", "from": from, "to": to,
		"ports": ["TCP/80"], "potential": false, "blocked": false,
	}]},
}

test_environments_do_not_reach_each_other if {
	some d in environments_apart.deny with input as change(staging, prod, {})
	d.msg == "NetworkPolicy prod/p would let pods of namespace test reach pods of namespace prod on TCP/80, which are of different environments (namespace label environment). Narrow the namespaceSelector to one environment."
}

test_one_environment_may_reach_itself if {
	count(environments_apart.deny) == 0 with input as change(prod, prod, {})
}

test_namespaces_of_no_environment_are_not_concerned if {
	count(environments_apart.deny) == 0 with input as change(prod, shared, {})
	count(environments_apart.deny) == 0 with input as change(shared, prod, {})
}

test_a_selector_that_leaves_the_environment_open if {
	every labels in [{}, {"team": "shop"}] {
		count(environments_apart.deny) == 1 with input as change(pod("class", "", labels), prod, {})
		count(environments_apart.deny) == 1 with input as change(prod, pod("class", "", labels), {})
	}
}

test_a_selector_of_the_environment if {
	count(environments_apart.deny) == 0 with input as change(pod("class", "", {"environment": "prod"}), prod, {})
}

test_the_label_can_be_given if {
	count(environments_apart.deny) == 0 with input as change(staging, prod, {"environmentLabel": "stage"})
}

test_an_unknown_effect_is_denied if {
	count(environments_apart.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(environments_apart.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
