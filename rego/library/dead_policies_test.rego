package tierwall.guardrails.dead_policies_test

import data.tierwall.guardrails.dead_policies

change(lint) := {
	"object": {"kind": "NetworkPolicy", "metadata": {"namespace": "prod", "name": "p"}},
	"effect": {"complete": true, "truncated": false, "lint": object.union({"selectsNothing": false, "deadPeers": [], "namedPortsUnresolved": []}, lint)},
}

field(pointer) := {"policy": "NetworkPolicy prod/p", "rule": pointer}

test_a_policy_that_selects_nothing if {
	some w in dead_policies.warn with input as change({"selectsNothing": true})
	w.msg == "NetworkPolicy prod/p selects no pod that exists. Check the labels of its podSelector; pods that come later will be selected."
}

test_a_cluster_policy_has_a_subject if {
	cluster := {"object": {"kind": "ClusterNetworkPolicy", "metadata": {"name": "p"}}}
	some w in dead_policies.warn with input as object.union(change({"selectsNothing": true}), cluster)
	w.path == "/spec/subject"
	contains(w.msg, "Check the labels of its subject;")
}

test_a_peer_that_matches_nothing if {
	some w in dead_policies.warn with input as change({"deadPeers": [field("/spec/ingress/0/from/1")]})
	w.path == "/spec/ingress/0/from/1"
	w.msg == "NetworkPolicy prod/p: the peer at /spec/ingress/0/from/1 matches no pod that exists. Check its labels and its namespace."
}

near(rule, reason, pods) := {"policy": "NetworkPolicy prod/p", "rule": rule, "reason": reason, "pod": "test/web-1", "pods": pods}

test_pods_that_are_there_say_why_they_do_not_count if {
	every case in [
		["hostNetwork", 1, "test/web-1 is on the host network, where policies do not apply"],
		["ended", 3, "test/web-1 and 2 more have ended"],
		["otherNamespace", 2, "test/web-1 and 1 more have these labels in other namespaces"],
	] {
		some w in dead_policies.warn with input as change({"selectsNothing": true, "nearMatches": [near("/spec/podSelector", case[0], case[1])]})
		w.msg == sprintf("NetworkPolicy prod/p selects no pod that exists: %s; pods that come later will be selected.", [case[2]])
	}
}

test_several_reasons_are_told_and_those_of_other_rules_are_not if {
	rule := "/spec/ingress/0/from/1"
	some w in dead_policies.warn with input as change({"deadPeers": [field(rule)], "nearMatches": [
		near(rule, "ended", 1),
		near(rule, "otherNamespace", 1),
		near("/spec/podSelector", "hostNetwork", 1),
	]})
	w.msg == concat("", [
		"NetworkPolicy prod/p: the peer at /spec/ingress/0/from/1 matches no pod that exists: ",
		"test/web-1 has ended, and test/web-1 has these labels in another namespace.",
	])
}

test_a_port_name_that_no_pod_has if {
	some w in dead_policies.warn with input as change({"namedPortsUnresolved": [field("/spec/ingress/0/ports/0")]})
	w.path == "/spec/ingress/0/ports/0"
	startswith(w.msg, "NetworkPolicy prod/p: no pod that the rule concerns has the port named at")
}

test_a_live_policy if {
	count(dead_policies.warn) == 0 with input as change({})
}

test_an_unknown_effect_is_warned_of if {
	count(dead_policies.warn) > 0 with input as {"effect": {"complete": false, "truncated": false}}
	count(dead_policies.warn) > 0 with input as {"effect": {"complete": true, "truncated": true}}
}
