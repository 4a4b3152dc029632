package tierwall.guardrails.data_tier_inside_test

import data.tierwall.guardrails.data_tier_inside

change(from, role, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "open-data"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": "ingress", "from": from, "ports": ["TCP/5432"], "potential": false, "blocked": false,
		"to": {"kind": "workload", "namespace": "prod", "role": role},
	}]},
}

network(cidr) := {"kind": "cidr", "name": cidr, "namespace": "", "role": ""}

test_the_world_may_not_reach_data if {
	some d in data_tier_inside.deny with input as change(network("0.0.0.0/0"), "data", {})
	d.msg == "NetworkPolicy prod/open-data would let addresses in 0.0.0.0/0 reach tier data in namespace prod on TCP/5432; nothing outside the cluster may reach the data tier. Name pods as peers instead of an ipBlock or of no peer at all."
}

test_the_ipv6_world_may_not_either if {
	count(data_tier_inside.deny) == 1 with input as change(network("::/0"), "data", {})
}

test_pods_are_not_concerned if {
	count(data_tier_inside.deny) == 0 with input as change({"kind": "workload", "namespace": "test", "role": ""}, "data", {})
}

test_other_tiers_are_not_concerned if {
	count(data_tier_inside.deny) == 0 with input as change(network("0.0.0.0/0"), "frontend", {})
}

test_networks_can_be_named if {
	named := {"networks": ["10.9.0.0/16"]}
	count(data_tier_inside.deny) == 0 with input as change(network("10.9.1.0/24"), "data", named)
	count(data_tier_inside.deny) == 1 with input as change(network("10.0.0.0/8"), "data", named)
}

test_roles_can_be_named if {
	count(data_tier_inside.deny) == 1 with input as change(network("0.0.0.0/0"), "vault", {"roles": ["vault"]})
}

test_an_unknown_effect_is_denied if {
	count(data_tier_inside.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(data_tier_inside.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
