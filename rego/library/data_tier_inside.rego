# METADATA
# title: Nothing outside the cluster reaches the data tier
# description: >-
#   No network address may reach pods of the data tier, but for networks that the
#   parameters name. A network counts as outside even if pods have addresses in it.
# custom:
#   severity: critical
#   parameters:
#     roles:
#       type: texts
#       means: the roles of the data tier
#       default: [data]
#     networks:
#       type: networks
#       means: networks that may reach the data tier
#       default: none
package tierwall.guardrails.data_tier_inside

import data.tierwall.lib

roles := lib.parameter("roles", ["data"])

networks := lib.parameter("networks", [])

deny contains {"msg": msg, "path": lib.at("/spec")} if {
	some [role, namespace, ports], pairs in violations
	msg := sprintf("%s would let %s reach tier %s in namespace %s on %s; nothing outside the cluster may reach the %s tier. Name pods as peers instead of an ipBlock or of no peer at all.", [lib.change, lib.list(lib.froms(pairs)), role, namespace, ports, role])
}

violations[[row.to.role, row.to.namespace, lib.ports(row)]] contains [row.from, row.to] if {
	some row in input.effect.added
	row.to.role in roles
	lib.outside(row.from, networks)
	lib.opens(row)
}

deny contains lib.unjudged[_]
