# METADATA
# title: Networks are not too wide
# description: >-
#   A policy names the networks that are needed, not half of the internet: none with fewer
#   bits than the parameters say.
# custom:
#   severity: medium
#   parameters:
#     bits4:
#       type: number
#       means: the fewest bits of an IPv4 network
#       default: 8
#     bits6:
#       type: number
#       means: the fewest bits of an IPv6 network
#       default: 32
#     roles:
#       type: texts
#       means: the roles whose policies may have wider ones, such as a public frontend
#       default: none
package tierwall.guardrails.wide_networks

import data.tierwall.lib

bits := {4: lib.parameter("bits4", 8), 6: lib.parameter("bits6", 32)}

roles := lib.parameter("roles", [])

deny contains {"msg": msg, "path": lib.at("/spec")} if {
	some [direction, owners], networks in alike
	msg := sprintf("%s would open %s to %s %s, which is too wide. Name the networks that are needed, of at least %d bits (IPv4) or %d (IPv6).", [lib.change, lib.list(owners), {"ingress": "all that comes from", "egress": "sending to"}[direction], lib.some_of(sort(networks)), bits[4], bits[6]])
}

# Networks that are open to the same pods are one violation, such as the whole of IPv4 and of IPv6.
alike[[direction, owners]] contains network if {
	some [network, direction], owners in violations
}

violations[[row_network, row.direction]] contains lib.own(row) if {
	some row in input.effect.added
	row_network := lib.other(row).name
	too_wide(lib.other(row))
	not lib.own(row).role in roles
	lib.opens(row)
}

deny contains lib.unjudged[_]

too_wide(peer) if {
	peer.kind == "cidr"
	[address, length] := split(peer.name, "/")
	to_number(length) < bits[family(address)]
}

family(address) := 6 if contains(address, ":")

else := 4
