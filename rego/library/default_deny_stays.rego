# METADATA
# title: Default deny may not be taken away
# description: >-
#   No change may open every port of a pod to everything, or let a pod reach everything on
#   every port: that is what default deny is there to prevent.
# custom:
#   severity: high
package tierwall.guardrails.default_deny_stays

import data.tierwall.lib

deny contains {"msg": msg, "path": "/spec"} if {
	some row in input.effect.added
	lib.wide(row)
	subject := {"ingress": row.to, "egress": row.from}[row.direction]
	peer := {"ingress": row.from, "egress": row.to}[row.direction]
	everything(peer)
	verb := {"ingress": "be reached from", "egress": "reach"}[row.direction]
	lib.opens(row)
	msg := sprintf("%s would let %s %s %s on %s, which takes default deny away. Name the peers and the ports that are needed.", [lib.change, lib.describe(subject), verb, lib.describe(peer), lib.ports(row)])
}

deny contains lib.unjudged[_]

# A network of fewer than eight bits is a part of "everything" cut into pieces.
everything(peer) if {
	peer.kind == "cidr"
	to_number(split(peer.name, "/")[1]) < 8
}

everything(peer) if {
	peer.kind == "class"
	peer.namespace == ""
	count(peer.namespaceLabels) == 0
	count(peer.labels) == 0
}
