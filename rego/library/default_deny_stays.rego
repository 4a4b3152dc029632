# METADATA
# title: Default deny may not be taken away
# description: >-
#   No change may open every port of a pod to everything, or let a pod reach everything on
#   every port: that is what default deny is there to prevent.
# custom:
#   severity: high
package tierwall.guardrails.default_deny_stays

import data.tierwall.lib

deny contains {"msg": msg, "path": lib.at("/spec")} if {
	some [direction, ports], pairs in violations
	froms := lib.list(lib.froms(pairs))
	tos := lib.list(lib.tos(pairs))
	would := {
		"ingress": sprintf("let %s be reached from %s", [tos, froms]),
		"egress": sprintf("let %s reach %s", [froms, tos]),
	}
	msg := sprintf("%s would %s on %s, which takes default deny away. Name the peers and the ports that are needed.", [lib.change, would[direction], ports])
}

violations[[row.direction, lib.ports(row)]] contains [row.from, row.to] if {
	some row in input.effect.added
	lib.wide(row)
	everything(lib.other(row))
	lib.opens(row)
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
