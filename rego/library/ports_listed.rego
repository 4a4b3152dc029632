# METADATA
# title: Policies list their ports
# description: >-
#   A rule without ports opens every port of the pods, also those that nobody thinks of: a
#   debugger, a metrics endpoint, a shell.
# custom:
#   severity: medium
#   parameters:
#     directions:
#       type: texts
#       means: the directions that must list ports
#       default: [ingress, egress]
#     roles:
#       type: texts
#       means: the roles whose policies need not
#       default: none
package tierwall.guardrails.ports_listed

import data.tierwall.lib

directions := lib.parameter("directions", ["ingress", "egress"])

roles := lib.parameter("roles", [])

deny contains {"msg": msg, "path": lib.at("/spec")} if {
	some ports, pairs in violations
	msg := sprintf("%s would let %s reach %s on %s. List the ports that are needed.", [lib.change, lib.list(lib.froms(pairs)), lib.list(lib.tos(pairs)), ports])
}

violations[lib.ports(row)] contains [row.from, row.to] if {
	some row in input.effect.added
	row.direction in directions
	lib.wide(row)
	not lib.own(row).role in roles
	lib.opens(row)
}

deny contains lib.unjudged[_]
