# METADATA
# title: Only named users write policies of the Admin tier
# description: >-
#   A ClusterNetworkPolicy of the tier Admin overrules every NetworkPolicy. RBAC says who may
#   write ClusterNetworkPolicies, but not of which tier. What exists is not judged, since it
#   does not tell who wrote it.
# custom:
#   severity: critical
#   parameters:
#     tiers:
#       type: texts
#       means: the tiers
#       default: [Admin]
#     groups:
#       type: texts
#       means: the groups of users that may
#       default: ["system:masters"]
#     users:
#       type: texts
#       means: users that may, such as system:serviceaccount:flux-system:kustomize-controller
#       default: none
package tierwall.guardrails.admin_tier_writers

import data.tierwall.lib

tiers := lib.parameter("tiers", ["Admin"])

groups := lib.parameter("groups", ["system:masters"])

users := lib.parameter("users", [])

deny contains {"msg": msg, "path": "/spec/tier"} if {
	lib.kind == "ClusterNetworkPolicy"
	user := input.request.userInfo.username
	user != ""
	some policy in [input.object, input.oldObject]
	policy.spec.tier in tiers
	not same_spec
	not may
	msg := sprintf("%s is of tier %s, which %s may not write; members of %s may. Ask one of them, or use the tier Baseline.", [lib.change, policy.spec.tier, user, concat(", ", groups)])
}

may if input.request.userInfo.username in users

may if {
	some group in input.request.userInfo.groups
	group in groups
}

same_spec if input.object.spec == input.oldObject.spec
