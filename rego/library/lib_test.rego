package tierwall.lib_test

import data.tierwall.lib

policy := {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "web"}}

row(direction, blocked) := {"direction": direction, "blocked": blocked, "ports": ["TCP/80"]}

test_change_names_the_object if {
	lib.change == "NetworkPolicy prod/web" with input as {"object": policy, "oldObject": null}
}

test_change_says_that_the_object_goes if {
	lib.change == "Deleting NetworkPolicy prod/web" with input as {"object": null, "oldObject": policy}
}

test_cluster_objects_have_no_namespace if {
	lib.change == "TierRole data" with input as {"object": {"kind": "TierRole", "metadata": {"name": "data"}}}
}

test_name_from_the_request_when_there_is_no_object if {
	lib.change == "TierRole data" with input as {"request": {"name": "data", "kind": {"kind": "TierRole"}}}
}

test_name_of_a_request_without_kind if {
	lib.change == "object data" with input as {"request": {"name": "data"}}
}

test_change_of_labels if {
	pod := {"kind": "Pod", "metadata": {"namespace": "prod", "name": "web-1"}}
	lib.change == "The labels of Pod prod/web-1" with input as {"object": pod, "oldObject": pod}
	lib.change == "Pod prod/web-1" with input as {"object": pod, "oldObject": null}
	lib.change == "Deleting Pod prod/web-1" with input as {"object": null, "oldObject": pod}
	namespace := {"kind": "Namespace", "metadata": {"name": "prod"}}
	lib.change == "The labels of Namespace prod" with input as {"object": namespace, "oldObject": namespace}
}

test_a_pod_without_a_name_yet if {
	pod := {"kind": "Pod", "metadata": {"namespace": "prod", "generateName": "web-"}}
	lib.change == "Pod prod/web-*" with input as {"object": pod}
}

test_what_is_open_where_no_policy_says if {
	lib.change == "The default action of Namespace prod" with input as {"source": "audit", "object": {"kind": "Namespace", "metadata": {"name": "prod"}}}
	lib.change == "NetworkPolicy prod/web" with input as {"source": "audit", "object": policy}
}

test_the_field_at_fault if {
	lib.at("/spec/ingress") == "/spec/ingress" with input as {"object": policy}
	lib.at("/spec/ingress") == "/metadata/labels" with input as {"object": {"kind": "Pod"}}
	lib.at("/spec/ingress") == "/metadata/labels" with input as {"object": {"kind": "Namespace"}}
}

test_change_without_a_name if {
	lib.change == "The change" with input as {}
}

test_parameter if {
	lib.parameter("a", 1) == 2 with input as {"parameters": {"a": 2}}
	lib.parameter("a", 1) == 1 with input as {"parameters": {}}
	lib.parameter("a", 1) == 1 with input as {}
}

test_a_blocked_egress_row_opens_nothing if {
	lib.opens(row("ingress", true))
	lib.opens(row("ingress", false))
	lib.opens(row("egress", false))
	not lib.opens(row("egress", true))
}

test_a_complete_effect_can_be_judged if {
	count(lib.unjudged) == 0 with input as {"effect": {"complete": true, "truncated": false}}
}

test_an_incomplete_effect_cannot_be_judged if {
	some msg in lib.unjudged with input as {"object": policy, "effect": {"complete": false, "truncated": false, "incomplete": ["too many pods"]}}
	msg == "NetworkPolicy prod/web cannot be judged, as its effect is not known: too many pods. Make the change smaller, or ask your administrator."
}

test_an_incomplete_effect_may_give_no_reason if {
	some msg in lib.unjudged with input as {"object": policy, "effect": {"complete": false, "truncated": false}}
	contains(msg, "the effect is incomplete")
}

test_a_truncated_effect_cannot_be_judged if {
	some msg in lib.unjudged with input as {"object": policy, "effect": {"complete": true, "truncated": true}}
	contains(msg, "opens too much to list")
}

test_no_effect_cannot_be_judged if {
	count(lib.unjudged) == 2 with input as {"object": policy}
}

test_describe if {
	lib.describe({"kind": "cidr", "name": "0.0.0.0/0"}) == "addresses in 0.0.0.0/0"
	lib.describe({"kind": "workload", "namespace": "prod", "role": "data"}) == "data pods of namespace prod"
	lib.describe({"kind": "workload", "namespace": "prod", "role": ""}) == "pods of namespace prod"
	lib.describe({"kind": "class", "namespace": "", "role": "", "namespaceLabels": {}}) == "possible pods of any namespace"
	lib.describe({"kind": "class", "namespace": "", "role": "", "namespaceLabels": {"b": "2", "a": "1"}}) == "possible pods of any namespace with labels a=1,b=2"
	lib.describe({"kind": "class", "namespace": "prod", "role": "data", "labels": {"app": "db", "tierwall.io/tier-role": "data"}}) == "possible data pods with labels app=db of namespace prod"
}

pod(kind, namespace) := {"kind": kind, "namespace": namespace, "role": "", "labels": {}}

test_list if {
	lib.list({pod("workload", "a"), pod("workload", "b")}) == "pods of namespace a, pods of namespace b"
	lib.list({pod("workload", "a"), pod("class", "b")}) == "pods of namespace a"
	lib.list({pod("class", "b")}) == "possible pods of namespace b"
	many := {pod("workload", name) | some name in ["a", "b", "c", "d", "e"]}
	lib.list(many) == "pods of namespace a, pods of namespace b, pods of namespace c and 2 others"
}

test_sides if {
	pairs := {["a", "b"], ["c", "b"]}
	lib.froms(pairs) == {"a", "c"}
	lib.tos(pairs) == {"b"}
}

test_ports if {
	lib.ports({"ports": ["TCP/80", "UDP/53"]}) == "TCP/80, UDP/53"
	lib.ports({"ports": ["any"]}) == "every port"
}

test_covers if {
	lib.covers({"ports": ["any"]}, "TCP", 22)
	lib.covers({"ports": ["TCP/22"]}, "TCP", 22)
	lib.covers({"ports": ["UDP/53", "TCP/20-30"]}, "TCP", 22)
	not lib.covers({"ports": ["UDP/22", "TCP/80", "TCP/23-30", "TCP/22-tcp"]}, "TCP", 22)
}

test_ranges if {
	lib.ranges({"ports": ["any", "UDP/53", "TCP/20-30", "TCP/http"]}) == [
		{"protocol": "UDP", "first": 53, "last": 53},
		{"protocol": "TCP", "first": 20, "last": 30},
	]
}

test_named if {
	lib.named({"ports": ["any", "ICMP", "UDP/53", "TCP/20-30", "TCP/http", "TCP/8-bit"]}) == {"TCP/http", "TCP/8-bit"}
}

test_wide if {
	lib.wide({"ports": ["any"]})
	lib.wide({"ports": ["UDP/53", "TCP/1-32768"]})
	not lib.wide({"ports": ["TCP/http", "TCP/1-32767", "UDP/32769-65535"]})
}

test_outside if {
	lib.outside({"kind": "cidr", "name": "0.0.0.0/0"}, lib.private)
	lib.outside({"kind": "cidr", "name": "10.0.0.0/7"}, lib.private)
	lib.outside({"kind": "cidr", "name": "10.0.0.0/8"}, [])
	not lib.outside({"kind": "cidr", "name": "10.1.0.0/16"}, lib.private)
	not lib.outside({"kind": "workload", "name": "web"}, lib.private)
}

test_meets if {
	lib.meets({"kind": "cidr", "name": "0.0.0.0/0"}, ["169.254.169.254/32"])
	lib.meets({"kind": "cidr", "name": "169.254.169.254/32"}, ["169.254.0.0/16"])
	not lib.meets({"kind": "cidr", "name": "0.0.0.0/0", "except": ["169.254.0.0/16"]}, ["169.254.169.254/32"])
	not lib.meets({"kind": "cidr", "name": "::/0"}, ["169.254.169.254/32"])
	not lib.meets({"kind": "workload", "name": "web"}, ["0.0.0.0/0"])
}

test_whose_row_it_is if {
	lib.own({"direction": "ingress", "from": "a", "to": "b"}) == "b"
	lib.own({"direction": "egress", "from": "a", "to": "b"}) == "a"
	lib.other({"direction": "ingress", "from": "a", "to": "b"}) == "a"
}
