# METADATA
# title: Only named roles reach the world
# description: >-
#   Pods may reach networks outside only if they hold a role that the parameters name.
#   Private networks are not the world unless the parameters say otherwise.
# custom:
#   severity: high
#   parameters:
#     roles:
#       type: texts
#       means: the roles that may reach the world
#       default: none
#     networks:
#       type: networks
#       means: networks that are not the world
#       default: private networks
package tierwall.guardrails.egress_to_world

import data.tierwall.lib

roles := lib.parameter("roles", [])

networks := lib.parameter("networks", lib.private)

deny contains {"msg": msg, "path": lib.at("/spec/egress")} if {
	some ports, pairs in violations
	msg := sprintf("%s would let %s reach %s on %s; only %s may reach the world. Name the pods or networks that are needed, or select pods by the label tierwall.io/tier-role.", [lib.change, lib.list(lib.froms(pairs)), lib.list(lib.tos(pairs)), ports, who])
}

violations[lib.ports(row)] contains [row.from, row.to] if {
	some row in input.effect.added
	row.direction == "egress"
	lib.outside(row.to, networks)
	not row.from.role in roles
	lib.opens(row)
}

deny contains lib.unjudged[_]

who := sprintf("pods of roles %s", [concat(", ", roles)]) if count(roles) > 0

else := "pods of roles named by an administrator (none at present)"
