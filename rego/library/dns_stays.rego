# METADATA
# title: DNS stays reachable
# description: >-
#   Warns when pods can no longer reach the cluster's DNS, which happens when the first
#   policy with egress selects them and does not allow it, or when one selects the DNS pods.
# custom:
#   severity: medium
#   parameters:
#     namespace:
#       type: text
#       means: the namespace of the DNS pods
#       default: kube-system
#     labels:
#       type: labels
#       means: the labels of the DNS pods
#       default: "k8s-app: kube-dns"
#     ports:
#       type: numbers
#       means: the UDP ports that they listen on
#       default: [53]
package tierwall.guardrails.dns_stays

import data.tierwall.lib

namespace := lib.parameter("namespace", "kube-system")

labels := lib.parameter("labels", {"k8s-app": "kube-dns"})

ports := lib.parameter("ports", [53])

warn contains {"msg": msg, "path": lib.at("/spec/egress")} if {
	some row in lost
	row.direction == "egress"
	some port in ports
	lib.covers(row, "UDP", port)
	msg := sprintf("%s would cut %s off from DNS. Allow egress to namespace %s on UDP and TCP port %d.", [lib.change, lib.describe(row.from), namespace, port])
}

warn contains {"msg": msg, "path": lib.at("/spec/ingress")} if {
	pairs := {[row.from, row.to] |
		some row in lost
		row.direction == "ingress"
		some port in ports
		lib.covers(row, "UDP", port)
	}
	count(pairs) > 0
	msg := sprintf("%s would close DNS, %s, to %s. Allow ingress on UDP and TCP port %v.", [lib.change, lib.list(lib.tos(pairs)), lib.list(lib.froms(pairs)), ports[0]])
}

lost := [row | some row in input.effect.removed; serves_dns(row.to)]

warn contains lib.unjudged[_]

# Rows carry only the labels that some selector mentions; a label that is not there may fit.
serves_dns(peer) if {
	peer.kind != "cidr"
	peer.namespace == namespace
	every key, value in labels {
		object.get(peer.labels, key, value) == value
	}
}
