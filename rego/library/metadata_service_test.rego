package tierwall.guardrails.metadata_service_test

import data.tierwall.guardrails.metadata_service

change(direction, cidr, except, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [{
		"direction": direction, "from": {"kind": "workload", "namespace": "prod", "role": "backend"},
		"to": {"kind": "cidr", "name": cidr, "except": except, "namespace": "", "role": ""},
		"ports": ["TCP/80"], "potential": false, "blocked": false,
	}]},
}

test_the_world_has_the_metadata_service if {
	some d in metadata_service.deny with input as change("egress", "0.0.0.0/0", [], {})
	d.msg == "NetworkPolicy prod/p would let backend pods of namespace prod reach addresses in 0.0.0.0/0 on TCP/80, where the cloud's metadata service is (169.254.169.254/32, fd00:ec2::254/128). Put its address into except of the ipBlock, or name the networks that are needed."
	d.path == "/spec/egress"
	count(metadata_service.deny) == 1 with input as change("egress", "::/0", [], {})
	count(metadata_service.deny) == 1 with input as change("egress", "169.254.169.254/32", [], {})
}

test_a_cluster_policy_denies_it_in_front if {
	cluster := {"object": {"kind": "ClusterNetworkPolicy", "metadata": {"name": "p"}}}
	some d in metadata_service.deny with input as object.union(change("egress", "0.0.0.0/0", [], {}), cluster)
	endswith(d.msg, "Put a rule in front that denies its address, or name the networks that are needed.")
}

test_excepted_it_is_closed if {
	count(metadata_service.deny) == 0 with input as change("egress", "0.0.0.0/0", ["169.254.0.0/16"], {})
	count(metadata_service.deny) == 1 with input as change("egress", "0.0.0.0/0", ["10.0.0.0/8"], {})
}

test_other_networks_do_not_have_it if {
	count(metadata_service.deny) == 0 with input as change("egress", "10.0.0.0/8", [], {})
	count(metadata_service.deny) == 0 with input as change("ingress", "0.0.0.0/0", [], {})
}

test_roles_and_addresses_can_be_given if {
	count(metadata_service.deny) == 0 with input as change("egress", "0.0.0.0/0", [], {"roles": ["backend"]})
	count(metadata_service.deny) == 0 with input as change("egress", "169.254.169.254/32", [], {"addresses": ["100.100.100.200/32"]})
}

test_an_unknown_effect_is_denied if {
	count(metadata_service.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(metadata_service.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
