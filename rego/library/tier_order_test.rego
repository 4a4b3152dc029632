package tierwall.guardrails.tier_order_test

import data.tierwall.guardrails.tier_order

pod(role) := {"kind": "workload", "namespace": "prod", "role": role}

change(from, to, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": "ingress", "from": pod(from), "to": pod(to),
		"ports": ["TCP/5432"], "potential": false, "blocked": false,
	}]},
}

test_frontend_never_reaches_data if {
	some d in tier_order.deny with input as change("frontend", "data", {})
	d.msg == "NetworkPolicy prod/p would let frontend pods of namespace prod reach data pods of namespace prod directly on TCP/5432; tiers are reached in the order frontend, backend, data. Let the frontend tier reach its neighbour instead, and select pods by the label tierwall.io/tier-role."
}

test_neighbours_may if {
	every pair in [["frontend", "backend"], ["backend", "data"], ["data", "data"]] {
		count(tier_order.deny) == 0 with input as change(pair[0], pair[1], {})
	}
}

test_pods_without_a_place_in_the_order_are_not_concerned if {
	count(tier_order.deny) == 0 with input as change("", "data", {})
	count(tier_order.deny) == 0 with input as change("frontend", "cache", {})
}

test_back_is_allowed_unless_forward_only if {
	count(tier_order.deny) == 0 with input as change("data", "frontend", {})
	count(tier_order.deny) == 1 with input as change("data", "frontend", {"forwardOnly": true})
	count(tier_order.deny) == 0 with input as change("backend", "data", {"forwardOnly": true})
}

test_the_order_can_be_given if {
	order := {"order": ["edge", "app", "store"]}
	count(tier_order.deny) == 1 with input as change("edge", "store", order)
	count(tier_order.deny) == 0 with input as change("frontend", "data", order)
}

test_an_unknown_effect_is_denied if {
	count(tier_order.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(tier_order.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
