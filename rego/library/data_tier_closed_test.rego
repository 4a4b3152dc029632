package tierwall.guardrails.data_tier_closed_test

import data.tierwall.guardrails.data_tier_closed

pod(namespace, role, environment) := {
	"kind": "workload", "namespace": namespace, "namespaceLabels": {"environment": environment},
	"name": "p", "role": role, "labels": {}, "pods": 1,
}

change(from, to, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "open-data"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": "ingress", "from": from, "to": to,
		"ports": ["TCP/5432"], "potential": false, "blocked": false,
	}]},
}

data_pod := pod("prod", "data", "prod")

test_another_namespace_may_not_reach_data if {
	some d in data_tier_closed.deny with input as change(pod("test", "frontend", "test"), data_pod, {})
	d.msg == "NetworkPolicy prod/open-data would let frontend pods of namespace test reach tier data in namespace prod on TCP/5432; the data tier may be reached only from its own namespace. Remove the peer or ask the security team."
}

test_the_own_namespace_may if {
	count(data_tier_closed.deny) == 0 with input as change(pod("prod", "backend", "prod"), data_pod, {})
}

test_other_tiers_are_not_concerned if {
	count(data_tier_closed.deny) == 0 with input as change(pod("test", "frontend", "test"), pod("prod", "backend", "prod"), {})
}

test_networks_are_not_concerned if {
	count(data_tier_closed.deny) == 0 with input as change({"kind": "cidr", "name": "0.0.0.0/0", "namespace": ""}, data_pod, {})
}

test_roles_can_be_named if {
	count(data_tier_closed.deny) == 1 with input as change(pod("test", "", "test"), pod("prod", "vault", "prod"), {"roles": ["vault"]})
	count(data_tier_closed.deny) == 0 with input as change(pod("test", "", "test"), data_pod, {"roles": ["vault"]})
}

test_a_trusted_namespace_may if {
	count(data_tier_closed.deny) == 0 with input as change(pod("monitoring", "", "ops"), data_pod, {"namespaces": ["monitoring"]})
}

test_the_same_environment_may if {
	by_label := {"environmentLabel": "environment"}
	count(data_tier_closed.deny) == 0 with input as change(pod("prod-jobs", "", "prod"), data_pod, by_label)
	some d in data_tier_closed.deny with input as change(pod("test", "", "test"), data_pod, by_label)
	contains(d.msg, "only from namespaces with the same label environment")
}

test_a_namespace_without_environment_may_not if {
	from := json.patch(pod("test", "", "test"), [{"op": "replace", "path": "namespaceLabels", "value": {}}])
	count(data_tier_closed.deny) == 1 with input as change(from, data_pod, {"environmentLabel": "environment"})
}

test_pods_that_do_not_exist_yet_count if {
	from := json.patch(pod("", "", "test"), [{"op": "replace", "path": "kind", "value": "class"}])
	count(data_tier_closed.deny) == 1 with input as change(from, data_pod, {})
}

test_an_unknown_effect_is_denied if {
	count(data_tier_closed.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(data_tier_closed.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
