package tierwall.guardrails.system_stays_test

import data.tierwall.guardrails.system_stays

pod(namespace) := {"kind": "workload", "namespace": namespace, "role": ""}

network := {"kind": "cidr", "name": "0.0.0.0/0", "namespace": "", "role": ""}

removal(direction, from, to, parameters) := {
	"object": {"kind": "ClusterNetworkPolicy", "metadata": {"name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [], "removed": [{
		"direction": direction, "from": from, "to": to, "ports": ["any"], "potential": false, "blocked": false,
	}]},
}

test_the_webhook_is_not_closed_to_the_api_server if {
	some d in system_stays.deny with input as removal("ingress", network, pod("tierwall-system"), {})
	d.msg == "ClusterNetworkPolicy p would close pods of namespace tierwall-system to nodes, networks or system pods on every port; what serves the whole cluster must not be cut off. Leave namespaces kube-system, tierwall-system out of the subject."
}

test_system_pods_may_send if {
	some d in system_stays.deny with input as removal("egress", pod("kube-system"), network, {})
	contains(d.msg, "would keep pods of namespace kube-system from sending on every port")
}

test_system_pods_reach_each_other if {
	count(system_stays.deny) == 1 with input as removal("ingress", pod("kube-system"), pod("tierwall-system"), {})
}

test_pods_may_be_kept_away if {
	count(system_stays.deny) == 0 with input as removal("ingress", pod("prod"), pod("tierwall-system"), {})
}

test_other_namespaces_are_not_concerned if {
	count(system_stays.deny) == 0 with input as removal("ingress", network, pod("prod"), {})
	count(system_stays.deny) == 1 with input as removal("ingress", network, pod("prod"), {"namespaces": ["prod"]})
}

test_an_unknown_effect_is_denied if {
	count(system_stays.deny) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(system_stays.deny) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
