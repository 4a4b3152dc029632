package tierwall.guardrails.admin_tier_writers_test

import data.tierwall.guardrails.admin_tier_writers

policy(kind, tier) := {"kind": kind, "metadata": {"name": "p"}, "spec": {"tier": tier, "priority": 1}}

by(user, groups) := {"userInfo": {"username": user, "groups": groups}}

change(before, after, request, parameters) := {"object": after, "oldObject": before, "request": request, "parameters": parameters}

admin := policy("ClusterNetworkPolicy", "Admin")

test_others_may_not if {
	some d in admin_tier_writers.deny with input as change(null, admin, by("ann", ["system:authenticated"]), {})
	d.msg == "ClusterNetworkPolicy p is of tier Admin, which ann may not write; members of system:masters may. Ask one of them, or use the tier Baseline."
	count(admin_tier_writers.deny) == 1 with input as change(admin, null, by("ann", []), {})
}

test_it_cannot_be_moved_in_or_out_either if {
	baseline := policy("ClusterNetworkPolicy", "Baseline")
	count(admin_tier_writers.deny) == 1 with input as change(admin, baseline, by("ann", []), {})
	count(admin_tier_writers.deny) == 1 with input as change(baseline, admin, by("ann", []), {})
}

test_named_users_and_groups_may if {
	count(admin_tier_writers.deny) == 0 with input as change(null, admin, by("root", ["system:masters"]), {})
	count(admin_tier_writers.deny) == 0 with input as change(null, admin, by("flux", []), {"users": ["flux"]})
	count(admin_tier_writers.deny) == 0 with input as change(null, admin, by("ann", ["security"]), {"groups": ["security"]})
}

test_other_tiers_and_kinds_are_not_concerned if {
	count(admin_tier_writers.deny) == 0 with input as change(null, policy("ClusterNetworkPolicy", "Baseline"), by("ann", []), {})
	count(admin_tier_writers.deny) == 0 with input as change(null, policy("NetworkPolicy", "Admin"), by("ann", []), {})
	count(admin_tier_writers.deny) == 1 with input as change(null, policy("ClusterNetworkPolicy", "Baseline"), by("ann", []), {"tiers": ["Admin", "Baseline"]})
}

test_a_change_of_metadata_is_not_concerned if {
	count(admin_tier_writers.deny) == 0 with input as change(admin, admin, by("ann", []), {})
}

test_without_a_user_nobody_is_to_blame if {
	count(admin_tier_writers.deny) == 0 with input as change(null, admin, by("", []), {})
}
