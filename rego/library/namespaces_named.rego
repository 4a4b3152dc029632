# METADATA
# title: Pods of any namespace do not come in
# description: >-
#   A peer with an empty namespaceSelector is every namespace, also one that somebody makes
#   tomorrow, whatever labels its pods need: they can have them. A policy says which
#   namespaces it means.
# custom:
#   severity: high
#   parameters:
#     roles:
#       type: texts
#       means: the roles that pods of any namespace may reach
#       default: none
package tierwall.guardrails.namespaces_named

import data.tierwall.lib

roles := lib.parameter("roles", [])

deny contains {"msg": msg, "path": lib.at("/spec/ingress")} if {
	some ports, owners in violations
	msg := sprintf("%s would let pods of any namespace reach %s on %s. Say which namespaces are meant, by the label kubernetes.io/metadata.name.", [lib.change, lib.list(owners), ports])
}

violations[lib.ports(row)] contains row.to if {
	some row in input.effect.added
	row.direction == "ingress"
	row.from.kind == "class"
	row.from.namespace == ""
	count(row.from.namespaceLabels) == 0
	not row.to.role in roles
}

deny contains lib.unjudged[_]
