# METADATA
# title: Nobody opens telnet
# description: A port of old may not become reachable from anywhere, also not within the cluster.
# custom:
#   severity: medium
#   parameters:
#     ports:
#       type: numbers
#       means: the TCP ports
#       default: [23]
package tierwall.guardrails.no_telnet

import data.tierwall.lib

deny contains {"msg": msg, "path": row.via[0].rule} if {
	some row in input.effect.added
	some port in lib.parameter("ports", [23])
	lib.covers(row, "TCP", port)
	lib.opens(row)
	msg := sprintf("%s would open %s to %s on TCP port %d. Use ssh.", [lib.change, lib.describe(row.to), lib.describe(row.from), port])
}

deny contains lib.unjudged[_]
