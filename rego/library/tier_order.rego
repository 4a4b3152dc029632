# METADATA
# title: Tiers are reached in order
# description: >-
#   A tier may reach itself and the next one, never the one after: frontend reaches
#   backend, backend reaches data, frontend does not reach data.
# custom:
#   severity: high
#   parameters:
#     order:
#       type: texts
#       means: the roles in order
#       default: [frontend, backend, data]
#     forwardOnly:
#       type: flag
#       means: whether a tier may not reach those before it either
#       default: false
package tierwall.guardrails.tier_order

import data.tierwall.lib

order := lib.parameter("order", ["frontend", "backend", "data"])

forward_only := lib.parameter("forwardOnly", false)

deny contains {"msg": msg, "path": "/spec"} if {
	some row in input.effect.added
	some i, from in order
	some j, to in order
	row.from.role == from
	row.to.role == to
	out_of_order(i, j)
	lib.opens(row)
	msg := sprintf("%s would let %s reach %s directly on %s; tiers are reached in the order %s. Let the %s tier reach its neighbour instead.", [lib.change, lib.describe(row.from), lib.describe(row.to), lib.ports(row), concat(", ", order), from])
}

deny contains lib.unjudged[_]

out_of_order(i, j) if j > i + 1

out_of_order(i, j) if {
	forward_only
	j < i
}
