# METADATA
# title: Only named roles are reached from the world
# description: >-
#   Networks outside reach only pods of the roles that the parameters name. Private networks
#   are not the world unless the parameters say otherwise.
# custom:
#   severity: high
#   parameters:
#     roles:
#       type: texts
#       means: the roles that may be reached from the world
#       default: [frontend]
#     networks:
#       type: networks
#       means: networks that are not the world
#       default: private networks
package tierwall.guardrails.ingress_from_world

import data.tierwall.lib

roles := lib.parameter("roles", ["frontend"])

networks := lib.parameter("networks", lib.private)

deny contains {"msg": msg, "path": lib.at("/spec/ingress")} if {
	some ports, pairs in violations
	msg := sprintf("%s would open %s to %s on %s; only %s may be reached from the world. Name the pods or networks that are needed, or let the frontend stand in between.", [lib.change, lib.list(lib.tos(pairs)), lib.list(lib.froms(pairs)), ports, who])
}

violations[lib.ports(row)] contains [row.from, row.to] if {
	some row in input.effect.added
	row.direction == "ingress"
	lib.outside(row.from, networks)
	not row.to.role in roles
	lib.opens(row)
}

deny contains lib.unjudged[_]

who := sprintf("pods of roles %s", [concat(", ", roles)]) if count(roles) > 0

else := "pods of roles named by an administrator (none at present)"
