# METADATA
# title: The data tier is closed to other namespaces
# description: >-
#   Pods of the data tier may be reached by pods of their own namespace only, or of
#   namespaces of the same environment.
# custom:
#   severity: critical
#   parameters:
#     roles:
#       type: texts
#       means: the roles of the data tier
#       default: [data]
#     environmentLabel:
#       type: text
#       means: a label of namespaces; those with the same value may reach the data tier too
#       default: none
#     namespaces:
#       type: texts
#       means: namespaces that may reach the data tier too, such as monitoring
#       default: none
package tierwall.guardrails.data_tier_closed

import data.tierwall.lib

roles := lib.parameter("roles", ["data"])

environment := lib.parameter("environmentLabel", "")

trusted := lib.parameter("namespaces", [])

deny contains {"msg": msg, "path": lib.at("/spec")} if {
	some [role, namespace, ports], pairs in violations
	msg := sprintf("%s would let %s reach tier %s in namespace %s on %s; the %s tier may be reached only from %s. Remove the peer or ask the security team.", [lib.change, lib.list(lib.froms(pairs)), role, namespace, ports, role, allowed])
}

violations[[row.to.role, row.to.namespace, lib.ports(row)]] contains [row.from, row.to] if {
	some row in input.effect.added
	row.to.role in roles
	row.from.kind != "cidr"
	not may_reach(row.from, row.to)
	lib.opens(row)
}

deny contains lib.unjudged[_]

may_reach(from, to) if from.namespace == to.namespace

may_reach(from, _) if from.namespace in trusted

may_reach(from, to) if {
	environment != ""
	from.namespaceLabels[environment] == to.namespaceLabels[environment]
}

allowed := sprintf("namespaces with the same label %s", [environment]) if environment != ""

else := "its own namespace"
