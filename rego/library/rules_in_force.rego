# METADATA
# title: Rules are of the policy's types
# description: >-
#   Warns of a NetworkPolicy with egress rules whose policyTypes does not say Egress, or the
#   other way round: Kubernetes ignores such rules without a word.
# custom:
#   severity: medium
package tierwall.guardrails.rules_in_force

import data.tierwall.lib

fields := {"Ingress": "ingress", "Egress": "egress"}

warn contains {"msg": msg, "path": "/spec/policyTypes"} if {
	input.object.kind == "NetworkPolicy"
	some type, field in fields
	count(input.object.spec[field]) > 0
	types := object.get(input.object.spec, "policyTypes", [])
	count(types) > 0
	not type in types
	msg := sprintf("%s has %s rules, but its policyTypes is %s: they do nothing. Add %s to policyTypes, or remove the rules.", [lib.name, field, concat(", ", types), type])
}
