package tierwall.guardrails.sensitive_ports_test

import data.tierwall.guardrails.sensitive_ports

change(direction, cidr, ports, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": direction, "from": {"kind": "cidr", "name": cidr, "namespace": "", "role": ""},
		"to": {"kind": "workload", "namespace": "prod", "role": "frontend"},
		"ports": ports, "potential": false, "blocked": false,
	}]},
}

test_shell_and_database_are_never_open_to_the_world if {
	some d in sensitive_ports.deny with input as change("ingress", "0.0.0.0/0", ["TCP/22", "TCP/443", "TCP/5000-6000"], {"ports": [22, 5432]})
	d.msg == "NetworkPolicy prod/p would open frontend pods of namespace prod to addresses in 0.0.0.0/0 on TCP ports 22, 5432, which may never be open to the world. Name the ports that are needed, or narrow the peers."
}

test_who_named_the_ports_is_told_to_narrow_the_peers if {
	some d in sensitive_ports.deny with input as change("ingress", "0.0.0.0/0", ["TCP/10250"], {})
	endswith(d.msg, "Narrow the peers to the addresses that connect; those of a webhook are the API servers'.")
	some two in sensitive_ports.deny with input as change("ingress", "::/0", ["TCP/22", "TCP/443"], {})
	not contains(two.msg, "Name the ports")
	some all in sensitive_ports.deny with input as change("ingress", "0.0.0.0/0", ["any"], {})
	endswith(all.msg, "Name the ports that are needed, or narrow the peers.")
}

test_the_way_out_opens_no_more if {
	count(sensitive_ports.deny) == 0 with input as change("ingress", "192.0.2.7/32", ["TCP/10250"], {"networks": ["192.0.2.0/28"]})
	count(sensitive_ports.deny) == 1 with input as change("ingress", "0.0.0.0/0", ["TCP/10250"], {"networks": ["192.0.2.0/28"]})
}

test_other_ports_may if {
	count(sensitive_ports.deny) == 0 with input as change("ingress", "0.0.0.0/0", ["TCP/443", "UDP/22"], {})
}

test_a_port_name_that_no_pod_has_may_be_any if {
	some d in sensitive_ports.deny with input as change("ingress", "0.0.0.0/0", ["TCP/http"], {})
	contains(d.msg, "on the ports named TCP/http, which no pod has yet")
	count(sensitive_ports.deny) == 0 with input as change("ingress", "10.0.0.0/8", ["TCP/http"], {})
}

test_every_port_is_too_much if {
	count(sensitive_ports.deny) == 1 with input as change("ingress", "::/0", ["any"], {})
}

test_private_networks_may if {
	count(sensitive_ports.deny) == 0 with input as change("ingress", "10.1.0.0/16", ["TCP/22"], {})
	count(sensitive_ports.deny) == 1 with input as change("ingress", "10.1.0.0/16", ["TCP/22"], {"networks": []})
}

test_egress_is_not_concerned if {
	count(sensitive_ports.deny) == 0 with input as change("egress", "0.0.0.0/0", ["TCP/22"], {})
}

test_an_unknown_effect_is_denied if {
	count(sensitive_ports.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(sensitive_ports.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
