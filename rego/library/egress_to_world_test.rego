package tierwall.guardrails.egress_to_world_test

import data.tierwall.guardrails.egress_to_world

change(direction, role, cidr, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": direction, "from": {"kind": "workload", "namespace": "prod", "role": role},
		"to": {"kind": "cidr", "name": cidr, "namespace": "", "role": ""},
		"ports": ["TCP/443"], "potential": false, "blocked": false,
	}]},
}

test_no_role_reaches_the_world_by_default if {
	some d in egress_to_world.deny with input as change("egress", "backend", "0.0.0.0/0", {})
	d.msg == "NetworkPolicy prod/p would let backend pods of namespace prod reach addresses in 0.0.0.0/0 on TCP/443; only pods of roles named by an administrator (none at present) may reach the world. Name the pods or networks that are needed, or select pods by the label tierwall.io/tier-role."
}

test_named_roles_may if {
	named := {"roles": ["gateway", "mail"]}
	count(egress_to_world.deny) == 0 with input as change("egress", "mail", "::/0", named)
	some d in egress_to_world.deny with input as change("egress", "backend", "::/0", named)
	contains(d.msg, "only pods of roles gateway, mail may reach the world")
}

test_pods_without_a_role_may_not if {
	count(egress_to_world.deny) == 1 with input as change("egress", "", "8.8.8.8/32", {"roles": ["gateway"]})
}

test_private_networks_are_not_the_world if {
	every cidr in ["10.0.0.0/8", "192.168.7.0/24", "fd00::/8"] {
		count(egress_to_world.deny) == 0 with input as change("egress", "backend", cidr, {})
	}
}

test_a_piece_of_the_world_is_the_world if {
	count(egress_to_world.deny) == 1 with input as change("egress", "backend", "128.0.0.0/1", {})
}

test_networks_can_be_given if {
	given := {"networks": ["203.0.113.0/24"]}
	count(egress_to_world.deny) == 0 with input as change("egress", "backend", "203.0.113.9/32", given)
	count(egress_to_world.deny) == 1 with input as change("egress", "backend", "10.0.0.0/8", given)
}

test_the_metadata_address_is_not_private if {
	count(egress_to_world.deny) == 1 with input as change("egress", "backend", "169.254.169.254/32", {})
}

test_ingress_is_not_concerned if {
	count(egress_to_world.deny) == 0 with input as change("ingress", "backend", "0.0.0.0/0", {})
}

test_an_unknown_effect_is_denied if {
	count(egress_to_world.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(egress_to_world.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
