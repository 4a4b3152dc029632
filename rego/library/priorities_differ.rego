# METADATA
# title: Priorities differ
# description: >-
#   Two ClusterNetworkPolicies of the same tier and priority that are about the same pods have
#   no order: the API leaves to each implementation which of them decides.
# custom:
#   severity: high
package tierwall.guardrails.priorities_differ

import data.tierwall.lib

deny contains {"msg": msg, "path": tie.rule} if {
	some tie in input.effect.lint.priorityTies
	msg := sprintf("%s has the priority of %s, which is about the same pods; which of them decides is not defined. Give it another one.", [tie.policy, tie.by])
}

deny contains lib.unjudged[_]
