# METADATA
# title: Pods do not reach the cloud's metadata service
# description: >-
#   The metadata service of a cloud hands the node's credentials to whoever can reach it.
#   A policy that lets pods send to a network says that its address is excepted.
# custom:
#   severity: critical
#   parameters:
#     addresses:
#       type: networks
#       means: where the metadata service is
#       default: [169.254.169.254/32, "fd00:ec2::254/128"]
#     roles:
#       type: texts
#       means: the roles that may reach it
#       default: none
package tierwall.guardrails.metadata_service

import data.tierwall.lib

addresses := lib.parameter("addresses", ["169.254.169.254/32", "fd00:ec2::254/128"])

roles := lib.parameter("roles", [])

deny contains {"msg": msg, "path": lib.at("/spec/egress")} if {
	some ports, pairs in violations
	msg := sprintf("%s would let %s reach %s on %s, where the cloud's metadata service is (%s). %s, or name the networks that are needed.", [lib.change, lib.list(lib.froms(pairs)), lib.list(lib.tos(pairs)), ports, concat(", ", addresses), way])
}

violations[lib.ports(row)] contains [row.from, row.to] if {
	some row in input.effect.added
	row.direction == "egress"
	lib.meets(row.to, addresses)
	not row.from.role in roles
	lib.opens(row)
}

deny contains lib.unjudged[_]

# Networks of a ClusterNetworkPolicy have no exceptions.
way := "Put a rule in front that denies its address" if lib.kind == "ClusterNetworkPolicy"

else := "Put its address into except of the ipBlock"
