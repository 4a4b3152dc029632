package tierwall.guardrails.no_telnet_test

import data.tierwall.guardrails.no_telnet

pod(name) := {"kind": "workload", "namespace": "prod", "namespaceLabels": {}, "name": name, "role": "", "labels": {}, "pods": 1}

change(ports) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": {},
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": "ingress", "from": pod("a"), "to": pod("b"), "ports": ports, "potential": false, "blocked": false,
		"via": [{"policy": "NetworkPolicy prod/p", "rule": "/spec/ingress/0"}],
	}]},
}

test_telnet_is_refused if {
	some d in no_telnet.deny with input as change(["TCP/20-25"])
	d.path == "/spec/ingress/0"
	d.msg == "NetworkPolicy prod/p would open pods of namespace prod to pods of namespace prod on TCP port 23. Use ssh."
}

test_ssh_is_not if {
	count(no_telnet.deny) == 0 with input as change(["TCP/22"])
}

test_an_unknown_effect_is_denied if {
	count(no_telnet.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
}
