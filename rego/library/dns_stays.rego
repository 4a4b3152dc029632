# METADATA
# title: DNS stays reachable
# description: >-
#   Warns when pods can no longer reach the cluster's DNS, which happens when the first
#   policy with egress selects them and does not allow it.
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

warn contains {"msg": msg, "path": "/spec/egress"} if {
	some row in input.effect.removed
	row.direction == "egress"
	serves_dns(row.to)
	some port in ports
	lib.covers(row, "UDP", port)
	msg := sprintf("%s cuts %s off from DNS. Allow egress to namespace %s on UDP and TCP port %d.", [lib.change, lib.describe(row.from), namespace, port])
}

warn contains lib.unjudged[_]

# Rows carry only the labels that some selector mentions; a label that is not there may fit.
serves_dns(peer) if {
	peer.kind != "cidr"
	peer.namespace == namespace
	every key, value in labels {
		object.get(peer.labels, key, value) == value
	}
}
