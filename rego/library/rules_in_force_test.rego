package tierwall.guardrails.rules_in_force_test

import data.tierwall.guardrails.rules_in_force

policy(spec) := {"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}, "spec": spec}}

test_rules_of_another_type_do_nothing if {
	some w in rules_in_force.warn with input as policy({"policyTypes": ["Ingress"], "egress": [{}]})
	w.msg == "NetworkPolicy prod/p has egress rules, but its policyTypes is Ingress: they do nothing. Add Egress to policyTypes, or remove the rules."
	count(rules_in_force.warn) == 1 with input as policy({"policyTypes": ["Egress"], "ingress": [{}]})
}

test_rules_of_the_types_do if {
	count(rules_in_force.warn) == 0 with input as policy({"policyTypes": ["Ingress", "Egress"], "egress": [{}], "ingress": [{}]})
	count(rules_in_force.warn) == 0 with input as policy({"egress": [{}], "ingress": [{}]})
	count(rules_in_force.warn) == 0 with input as policy({"policyTypes": ["Ingress"], "egress": []})
}

test_deletion_and_other_kinds_are_not_concerned if {
	count(rules_in_force.warn) == 0 with input as {"object": null}
	count(rules_in_force.warn) == 0 with input as {"object": {"kind": "Pod", "spec": {"policyTypes": ["Ingress"], "egress": [{}]}}}
}
