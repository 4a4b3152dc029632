# METADATA
# title: What serves the cluster is not cut off
# description: >-
#   No policy keeps the pods of system namespaces, tierwall's own webhook among them, from
#   sending, or closes them to nodes, networks and each other. Without the webhook no policy
#   can change any more, the one at fault included.
# custom:
#   severity: critical
#   parameters:
#     namespaces:
#       type: texts
#       means: the system namespaces
#       default: [kube-system, tierwall-system]
package tierwall.guardrails.system_stays

import data.tierwall.lib

namespaces := lib.parameter("namespaces", ["kube-system", "tierwall-system"])

deny contains {"msg": msg, "path": lib.at("/spec/subject")} if {
	some [direction, ports], owners in lost
	msg := sprintf("%s would %s on %s; what serves the whole cluster must not be cut off. Leave namespaces %s out of the subject.", [lib.change, sprintf(what[direction], [lib.list(owners)]), ports, concat(", ", namespaces)])
}

what := {
	"ingress": "close %s to nodes, networks or system pods",
	"egress": "keep %s from sending",
}

lost[[row.direction, lib.ports(row)]] contains lib.own(row) if {
	some row in input.effect.removed
	lib.own(row).namespace in namespaces
	cuts(row)
}

cuts(row) if row.direction == "egress"

cuts(row) if row.from.kind == "cidr"

cuts(row) if row.from.namespace in namespaces

deny contains lib.unjudged[_]
