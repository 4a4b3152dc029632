package tierwall.guardrails.api_server_stays_test

import data.tierwall.guardrails.api_server_stays

removal(direction, cidr, ports, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [], "removed": [{
		"direction": direction, "from": {"kind": "workload", "namespace": "prod", "role": "backend"},
		"to": {"kind": "cidr", "name": cidr, "namespace": "", "role": ""},
		"ports": ports, "potential": false, "blocked": false,
	}]},
}

test_the_api_server_is_cut_off if {
	some w in api_server_stays.warn with input as removal("egress", "0.0.0.0/0", ["any"], {})
	w.msg == "NetworkPolicy prod/p would cut backend pods of namespace prod off from the API server. Where they need it, allow egress to its addresses on TCP port 6443."
}

test_other_ports_and_directions_are_not_concerned if {
	count(api_server_stays.warn) == 0 with input as removal("egress", "0.0.0.0/0", ["TCP/443"], {})
	count(api_server_stays.warn) == 0 with input as removal("ingress", "0.0.0.0/0", ["any"], {})
}

test_where_it_is_and_who_needs_it_can_be_given if {
	given := {"networks": ["192.0.2.1/32"], "ports": [443], "namespaces": ["prod"]}
	count(api_server_stays.warn) == 1 with input as removal("egress", "192.0.2.0/24", ["TCP/443"], given)
	count(api_server_stays.warn) == 0 with input as removal("egress", "198.51.100.0/24", ["TCP/443"], given)
	count(api_server_stays.warn) == 0 with input as removal("egress", "0.0.0.0/0", ["any"], {"namespaces": ["operators"]})
}

test_an_unknown_effect_is_warned_of if {
	count(api_server_stays.warn) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(api_server_stays.warn) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
