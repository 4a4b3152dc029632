# METADATA
# title: Environments are apart
# description: >-
#   Pods of one environment do not reach pods of another. The environment is a label of the
#   namespace; namespaces without it belong to none.
# custom:
#   severity: high
#   parameters:
#     environmentLabel:
#       type: text
#       means: the label of namespaces that says their environment
#       default: environment
package tierwall.guardrails.environments_apart

import data.tierwall.lib

label := lib.parameter("environmentLabel", "environment")

deny contains {"msg": msg, "path": lib.at("/spec")} if {
	some ports, pairs in violations
	msg := sprintf("%s would let %s reach %s on %s, which are of different environments (namespace label %s). Narrow the namespaceSelector to one environment.", [lib.change, lib.list(lib.froms(pairs)), lib.list(lib.tos(pairs)), ports, label])
}

violations[lib.ports(row)] contains [row.from, row.to] if {
	some row in input.effect.added
	apart(row.from, row.to)
	lib.opens(row)
}

deny contains lib.unjudged[_]

apart(from, to) if from.namespaceLabels[label] != to.namespaceLabels[label]

# A namespace that does not exist yet can come with any environment that its selector leaves open.
apart(from, to) if {
	to.namespaceLabels[label]
	open(from)
}

apart(from, to) if {
	from.namespaceLabels[label]
	open(to)
}

open(peer) if {
	peer.kind == "class"
	peer.namespace == ""
	not peer.namespaceLabels[label]
}
