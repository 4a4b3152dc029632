package tierwall.guardrails.namespaces_named_test

import data.tierwall.guardrails.namespaces_named

class(namespace, labels) := {"kind": "class", "namespace": namespace, "namespaceLabels": labels, "role": "", "labels": {"app": "web"}}

change(direction, from, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": direction, "from": from, "to": {"kind": "workload", "namespace": "prod", "role": "backend"},
		"ports": ["TCP/80"], "potential": true, "blocked": false,
	}]},
}

test_any_namespace_is_too_many if {
	some d in namespaces_named.deny with input as change("ingress", class("", {}), {})
	d.msg == "NetworkPolicy prod/p would let pods of any namespace reach backend pods of namespace prod on TCP/80. Say which namespaces are meant, by the label kubernetes.io/metadata.name."
}

test_named_ones_are_not if {
	count(namespaces_named.deny) == 0 with input as change("ingress", class("test", {}), {})
	count(namespaces_named.deny) == 0 with input as change("ingress", class("", {"team": "shop"}), {})
	count(namespaces_named.deny) == 0 with input as change("egress", class("", {}), {})
}

test_roles_can_be_given if {
	count(namespaces_named.deny) == 0 with input as change("ingress", class("", {}), {"roles": ["backend"]})
}

test_an_unknown_effect_is_denied if {
	count(namespaces_named.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(namespaces_named.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
