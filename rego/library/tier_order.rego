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

deny contains {"msg": msg, "path": lib.at("/spec")} if {
	some [from, _, ports], pairs in violations
	msg := sprintf("%s would let %s reach %s directly on %s; tiers are reached in the order %s. Let the %s tier reach its neighbour instead, and select pods by the label tierwall.io/tier-role.", [lib.change, lib.list(lib.froms(pairs)), lib.list(lib.tos(pairs)), ports, concat(", ", order), from])
}

violations[[row.from.role, row.to.role, lib.ports(row)]] contains [row.from, row.to] if {
	some row in input.effect.added
	some i, from in order
	row.from.role == from
	some j, to in order
	row.to.role == to
	out_of_order(i, j)
	lib.opens(row)
}

deny contains lib.unjudged[_]

out_of_order(i, j) if j > i + 1

out_of_order(i, j) if {
	forward_only
	j < i
}
