package tierwall.guardrails.ports_listed_test

import data.tierwall.guardrails.ports_listed

pod(role) := {"kind": "workload", "namespace": "prod", "role": role}

change(direction, ports, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": direction, "from": pod("frontend"), "to": pod("backend"),
		"ports": ports, "potential": false, "blocked": false,
	}]},
}

test_every_port_is_too_many if {
	some d in ports_listed.deny with input as change("ingress", ["any"], {})
	d.msg == "NetworkPolicy prod/p would let frontend pods of namespace prod reach backend pods of namespace prod on every port. List the ports that are needed."
	count(ports_listed.deny) == 1 with input as change("egress", ["TCP/1-65535"], {})
}

test_listed_ones_are_not if {
	count(ports_listed.deny) == 0 with input as change("ingress", ["TCP/80", "UDP/9000-9100"], {})
}

test_directions_and_roles_can_be_given if {
	count(ports_listed.deny) == 0 with input as change("egress", ["any"], {"directions": ["ingress"]})
	count(ports_listed.deny) == 0 with input as change("egress", ["any"], {"roles": ["frontend"]})
	count(ports_listed.deny) == 1 with input as change("ingress", ["any"], {"roles": ["frontend"]})
}

test_an_unknown_effect_is_denied if {
	count(ports_listed.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(ports_listed.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
