package tierwall.guardrails.priorities_differ_test

import data.tierwall.guardrails.priorities_differ

lint(ties) := {"effect": {"complete": true, "truncated": false, "lint": {"priorityTies": ties}}}

test_equal_priorities if {
	some d in priorities_differ.deny with input as lint([{"policy": "ClusterNetworkPolicy a", "rule": "/spec/priority", "by": "ClusterNetworkPolicy b"}])
	d.msg == "ClusterNetworkPolicy a has the priority of ClusterNetworkPolicy b, which is about the same pods; which of them decides is not defined. Give it another one."
	d.path == "/spec/priority"
}

test_different_priorities if {
	count(priorities_differ.deny) == 0 with input as lint([])
}

test_an_unknown_effect_is_denied if {
	count(priorities_differ.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(priorities_differ.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
