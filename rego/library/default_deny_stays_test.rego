package tierwall.guardrails.default_deny_stays_test

import data.tierwall.guardrails.default_deny_stays

web := {"kind": "workload", "namespace": "prod", "namespaceLabels": {}, "role": "frontend", "labels": {}}

network(cidr) := {"kind": "cidr", "name": cidr, "namespace": "", "namespaceLabels": {}, "role": "", "labels": {}}

every_pod := {"kind": "class", "name": "", "namespace": "", "namespaceLabels": {}, "role": "", "labels": {}}

change(direction, from, to, ports) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "allow-all"}},
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": direction, "from": from, "to": to,
		"ports": ports, "potential": false, "blocked": false,
	}]},
}

test_everything_in if {
	some d in default_deny_stays.deny with input as change("ingress", network("0.0.0.0/0"), web, ["any"])
	d.msg == "NetworkPolicy prod/allow-all would let frontend pods of namespace prod be reached from addresses in 0.0.0.0/0 on every port, which takes default deny away. Name the peers and the ports that are needed."
}

test_everything_out if {
	some d in default_deny_stays.deny with input as change("egress", web, network("::/0"), ["any"])
	contains(d.msg, "would let frontend pods of namespace prod reach addresses in ::/0 on every port")
}

test_everything_in_halves if {
	count(default_deny_stays.deny) == 1 with input as change("ingress", network("128.0.0.0/1"), web, ["any"])
}

test_nearly_every_port if {
	count(default_deny_stays.deny) == 1 with input as change("ingress", network("0.0.0.0/0"), web, ["TCP/1-442", "TCP/444-65535"])
}

test_every_pod_of_every_namespace if {
	count(default_deny_stays.deny) == 1 with input as change("ingress", every_pod, web, ["any"])
}

test_named_ports_may_be_open_to_the_world if {
	count(default_deny_stays.deny) == 0 with input as change("ingress", network("0.0.0.0/0"), web, ["TCP/443"])
}

test_one_network_may_have_every_port if {
	count(default_deny_stays.deny) == 0 with input as change("ingress", network("10.0.0.0/8"), web, ["any"])
}

test_pods_of_the_namespace_may_have_every_port if {
	count(default_deny_stays.deny) == 0 with input as change("ingress", web, web, ["any"])
}

test_an_unknown_effect_is_denied if {
	count(default_deny_stays.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(default_deny_stays.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
