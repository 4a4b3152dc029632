package tierwall.guardrails.dns_stays_test

import data.tierwall.guardrails.dns_stays

removal(direction, to, ports, parameters) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"parameters": parameters,
	"effect": {"complete": true, "truncated": false, "added": [], "removed": [{
		"direction": direction, "from": {"kind": "workload", "namespace": "prod", "role": "backend"},
		"to": to, "ports": ports, "potential": false, "blocked": false,
	}]},
}

pod(namespace, labels) := {"kind": "workload", "namespace": namespace, "role": "", "labels": labels}

dns := pod("kube-system", {"k8s-app": "kube-dns"})

test_dns_is_cut_off if {
	some w in dns_stays.warn with input as removal("egress", dns, ["UDP/53"], {})
	w.msg == "NetworkPolicy prod/p would cut backend pods of namespace prod off from DNS. Allow egress to namespace kube-system on UDP and TCP port 53."
}

test_everything_is_cut_off if {
	count(dns_stays.warn) == 1 with input as removal("egress", pod("kube-system", {}), ["any"], {})
}

test_other_pods_of_the_namespace_are_not_dns if {
	count(dns_stays.warn) == 0 with input as removal("egress", pod("kube-system", {"k8s-app": "metrics"}), ["any"], {})
	count(dns_stays.warn) == 0 with input as removal("egress", pod("prod", {}), ["any"], {})
}

test_other_ports_are_not_dns if {
	count(dns_stays.warn) == 0 with input as removal("egress", dns, ["TCP/9153"], {})
}

test_networks_are_not_concerned if {
	count(dns_stays.warn) == 0 with input as removal("egress", {"kind": "cidr", "name": "0.0.0.0/0"}, ["any"], {})
}

test_dns_itself_is_closed if {
	some w in dns_stays.warn with input as removal("ingress", dns, ["UDP/53"], {})
	w.msg == "NetworkPolicy prod/p would close DNS, pods of namespace kube-system, to backend pods of namespace prod. Allow ingress on UDP and TCP port 53."
	count(dns_stays.warn) == 0 with input as removal("ingress", dns, ["TCP/9153"], {})
}

test_where_dns_is_can_be_given if {
	parameters := {"namespace": "dns", "labels": {"app": "coredns"}, "ports": [5353]}
	count(dns_stays.warn) == 1 with input as removal("egress", pod("dns", {"app": "coredns"}), ["UDP/5353"], parameters)
	count(dns_stays.warn) == 0 with input as removal("egress", dns, ["UDP/53"], parameters)
}

test_an_unknown_effect_is_warned_of if {
	count(dns_stays.warn) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(dns_stays.warn) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
