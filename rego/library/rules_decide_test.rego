package tierwall.guardrails.rules_decide_test

import data.tierwall.guardrails.rules_decide

lint(shadowed, redundant) := {"effect": {"complete": true, "truncated": false, "lint": {"shadowedBy": shadowed, "redundantWith": redundant}}}

by(other) := {"policy": "ClusterNetworkPolicy p", "rule": "/spec/ingress/1", "by": other}

test_a_rule_that_never_decides if {
	some w in rules_decide.warn with input as lint([by("ClusterNetworkPolicy q /spec/ingress/0"), by("ClusterNetworkPolicy p /spec/ingress/0")], [])
	w.msg == "ClusterNetworkPolicy p: the rule at /spec/ingress/1 never decides, as ClusterNetworkPolicy p /spec/ingress/0, ClusterNetworkPolicy q /spec/ingress/0 decides first, and not the same. Put it before, or remove it."
	w.path == "/spec/ingress/1"
}

test_a_rule_that_adds_nothing if {
	some w in rules_decide.warn with input as lint([], [by("ClusterNetworkPolicy q /spec/ingress/0")])
	w.msg == "ClusterNetworkPolicy p: the rule at /spec/ingress/1 adds nothing to ClusterNetworkPolicy q /spec/ingress/0. Remove it, unless it is to stay when the other one goes."
}

test_rules_that_decide if {
	count(rules_decide.warn) == 0 with input as lint([], [])
}

test_an_unknown_effect_is_warned_of if {
	count(rules_decide.warn) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(rules_decide.warn) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
