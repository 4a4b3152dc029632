package tierwall.guardrails.wide_networks_test

import data.tierwall.guardrails.wide_networks

network(cidr) := {"kind": "cidr", "name": cidr, "namespace": "", "role": ""}

pods := {"kind": "workload", "namespace": "prod", "role": "backend"}

change(direction, from, to, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": direction, "from": from, "to": to,
		"ports": ["TCP/443"], "potential": false, "blocked": false,
	}]},
}

test_half_of_the_internet_is_too_wide if {
	some d in wide_networks.deny with input as change("ingress", network("128.0.0.0/1"), pods, {})
	d.msg == "NetworkPolicy prod/p would open backend pods of namespace prod to all that comes from 128.0.0.0/1, which is too wide. Name the networks that are needed, of at least 8 bits (IPv4) or 32 (IPv6)."
	some e in wide_networks.deny with input as change("egress", pods, network("2000::/3"), {})
	contains(e.msg, "to sending to 2000::/3, which is too wide")
}

test_narrow_ones_are_not if {
	count(wide_networks.deny) == 0 with input as change("ingress", network("10.0.0.0/8"), pods, {})
	count(wide_networks.deny) == 0 with input as change("egress", pods, network("2001:db8::/32"), {})
	count(wide_networks.deny) == 0 with input as change("ingress", pods, pods, {})
}

test_bits_and_roles_can_be_given if {
	count(wide_networks.deny) == 1 with input as change("ingress", network("10.0.0.0/8"), pods, {"bits4": 16})
	count(wide_networks.deny) == 1 with input as change("ingress", network("fd00::/40"), pods, {"bits6": 48})
	count(wide_networks.deny) == 0 with input as change("ingress", network("0.0.0.0/0"), pods, {"roles": ["backend"]})
}

test_an_unknown_effect_is_denied if {
	count(wide_networks.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(wide_networks.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}

test_networks_open_to_the_same_pods_are_one_violation if {
	both := object.union(change("ingress", network("0.0.0.0/0"), pods, {}), {"effect": {"complete": true, "truncated": false, "added": [row |
		some cidr in ["::/0", "0.0.0.0/0"]
		row := change("ingress", network(cidr), pods, {}).effect.added[0]
	]}})
	count(wide_networks.deny) == 1 with input as both
	some d in wide_networks.deny with input as both
	contains(d.msg, "all that comes from 0.0.0.0/0, ::/0, which")
}
