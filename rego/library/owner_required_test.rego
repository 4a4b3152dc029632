package tierwall.guardrails.owner_required_test

import data.tierwall.guardrails.owner_required

policy(kind, annotations) := {"kind": kind, "metadata": {"namespace": "prod", "name": "p", "annotations": annotations}}

test_a_policy_without_owner if {
	some d in owner_required.deny with input as {"object": policy("NetworkPolicy", {})}
	d.msg == "NetworkPolicy prod/p has no owner. Set the annotation tierwall.io/owner to who answers for it."
}

test_a_policy_without_annotations if {
	count(owner_required.deny) == 1 with input as {"object": {"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "prod"}}}
}

test_blanks_are_no_owner if {
	count(owner_required.deny) == 1 with input as {"object": policy("ClusterNetworkPolicy", {"tierwall.io/owner": " "})}
}

test_a_policy_with_owner if {
	count(owner_required.deny) == 0 with input as {"object": policy("NetworkPolicy", {"tierwall.io/owner": "team-a"})}
}

test_annotation_and_pattern_can_be_given if {
	parameters := {"annotation": "owner", "pattern": "^team-"}
	count(owner_required.deny) == 0 with input as {"object": policy("NetworkPolicy", {"owner": "team-a"}), "parameters": parameters}
	some d in owner_required.deny with input as {"object": policy("NetworkPolicy", {"owner": "me"}), "parameters": parameters}
	d.msg == "NetworkPolicy prod/p has no owner. Set the annotation owner to who answers for it (it must match ^team-)."
}

test_pods_need_no_owner if {
	count(owner_required.deny) == 0 with input as {"object": policy("Pod", {})}
}

test_deletion_needs_no_owner if {
	count(owner_required.deny) == 0 with input as {"object": null, "oldObject": policy("NetworkPolicy", {})}
}
