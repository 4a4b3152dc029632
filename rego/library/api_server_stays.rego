# METADATA
# title: The API server stays reachable
# description: >-
#   Warns when pods that could reach the API server no longer can: controllers and operators
#   stop working then, often hours later.
# custom:
#   severity: medium
#   parameters:
#     networks:
#       type: networks
#       means: where the API servers are
#       default: anywhere outside of the pods
#     ports:
#       type: numbers
#       means: the TCP ports that they listen on, after translation of the Service's
#       default: [6443]
#     namespaces:
#       type: texts
#       means: the namespaces whose pods need it
#       default: all
package tierwall.guardrails.api_server_stays

import data.tierwall.lib

networks := lib.parameter("networks", ["0.0.0.0/0", "::/0"])

ports := lib.parameter("ports", [6443])

namespaces := lib.parameter("namespaces", [])

warn contains {"msg": msg, "path": lib.at("/spec/egress")} if {
	some port, owners in lost
	msg := sprintf("%s would cut %s off from the API server. Where they need it, allow egress to its addresses on TCP port %d.", [lib.change, lib.list(owners), port])
}

lost[port] contains row.from if {
	some row in input.effect.removed
	row.direction == "egress"
	lib.meets(row.to, networks)
	some port in ports
	lib.covers(row, "TCP", port)
	concerned(row.from.namespace)
}

warn contains lib.unjudged[_]

concerned(_) if count(namespaces) == 0

concerned(namespace) if namespace in namespaces
