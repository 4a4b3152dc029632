# METADATA
# title: Sensitive ports are never open to the world
# description: >-
#   Ports of remote shells, databases and of the control plane may not be reached from
#   networks outside.
# custom:
#   severity: critical
#   parameters:
#     ports:
#       type: numbers
#       means: the TCP ports
#       default: those of remote shells, databases and control planes
#     networks:
#       type: networks
#       means: networks that are not the world
#       default: private networks
package tierwall.guardrails.sensitive_ports

import data.tierwall.lib

ports := lib.parameter("ports", [22, 135, 139, 445, 1433, 2375, 2376, 2379, 2380, 3306, 3389, 5432, 5900, 5985, 6379, 6443, 9042, 9200, 10250, 11211, 27017])

networks := lib.parameter("networks", lib.private)

deny contains {"msg": msg, "path": lib.at("/spec/ingress")} if {
	some [exposed, wide], pairs in numbered
	msg := sprintf("%s would open %s to %s on TCP ports %s, which may never be open to the world. %s", [lib.change, lib.list(lib.tos(pairs)), lib.list(lib.froms(pairs)), concat(", ", [format_int(port, 10) | some port in exposed]), advice[wide]])
}

deny contains {"msg": msg, "path": lib.at("/spec/ingress")} if {
	some names, pairs in named
	msg := sprintf("%s would open %s to %s on the ports named %s, which no pod has yet and which may turn out to be sensitive. Name the ports by number, or create the pods first.", [lib.change, lib.list(lib.tos(pairs)), lib.list(lib.froms(pairs)), concat(", ", names)])
}

# Who named the ports already is told what else there is.
advice := {
	true: "Name the ports that are needed, or narrow the peers.",
	false: "Narrow the peers to the addresses that connect; those of a webhook are the API servers'.",
}

listed(row) if {
	not "any" in row.ports
	every range in lib.ranges(row) {
		range.first == range.last
	}
}

numbered[[exposed, wide]] contains [row.from, row.to] if {
	some row in input.effect.added
	row.direction == "ingress"
	lib.outside(row.from, networks)
	exposed := sort([port | some port in ports; lib.covers(row, "TCP", port)])
	count(exposed) > 0
	wide := count([row | not listed(row)]) > 0
	lib.opens(row)
}

named[names] contains [row.from, row.to] if {
	some row in input.effect.added
	row.direction == "ingress"
	lib.outside(row.from, networks)
	names := lib.named(row)
	count(names) > 0
	lib.opens(row)
}

deny contains lib.unjudged[_]
