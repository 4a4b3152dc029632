package tierwall.guardrails.ingress_from_world_test

import data.tierwall.guardrails.ingress_from_world

change(direction, role, cidr, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": direction, "to": {"kind": "workload", "namespace": "prod", "role": role},
		"from": {"kind": "cidr", "name": cidr, "namespace": "", "role": ""},
		"ports": ["TCP/443"], "potential": false, "blocked": false,
	}]},
}

test_the_backend_is_not_reached_from_the_world if {
	some d in ingress_from_world.deny with input as change("ingress", "backend", "0.0.0.0/0", {})
	d.msg == "NetworkPolicy prod/p would open backend pods of namespace prod to addresses in 0.0.0.0/0 on TCP/443; only pods of roles frontend may be reached from the world. Name the pods or networks that are needed, or let the frontend stand in between."
}

test_the_frontend_is if {
	count(ingress_from_world.deny) == 0 with input as change("ingress", "frontend", "0.0.0.0/0", {})
}

test_private_networks_are_not_the_world if {
	count(ingress_from_world.deny) == 0 with input as change("ingress", "backend", "10.1.0.0/16", {})
	count(ingress_from_world.deny) == 1 with input as change("ingress", "backend", "10.1.0.0/16", {"networks": []})
}

test_roles_can_be_given if {
	count(ingress_from_world.deny) == 0 with input as change("ingress", "edge", "::/0", {"roles": ["edge"]})
	some d in ingress_from_world.deny with input as change("ingress", "frontend", "::/0", {"roles": []})
	contains(d.msg, "(none at present)")
}

test_egress_is_not_concerned if {
	count(ingress_from_world.deny) == 0 with input as change("egress", "backend", "0.0.0.0/0", {})
}

test_an_unknown_effect_is_denied if {
	count(ingress_from_world.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(ingress_from_world.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
