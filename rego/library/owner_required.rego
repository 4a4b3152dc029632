# METADATA
# title: Every policy has an owner
# description: A policy must say in an annotation who answers for it.
# custom:
#   severity: low
#   parameters:
#     annotation:
#       type: text
#       means: the annotation
#       default: tierwall.io/owner
#     pattern:
#       type: text
#       means: a regular expression that its value must match
#       default: anything but blanks
package tierwall.guardrails.owner_required

import data.tierwall.lib

annotation := lib.parameter("annotation", "tierwall.io/owner")

pattern := lib.parameter("pattern", `\S`)

deny contains {"msg": msg, "path": "/metadata/annotations"} if {
	is_object(input.object)
	input.object.kind in {"NetworkPolicy", "ClusterNetworkPolicy"}
	not regex.match(pattern, object.get(input.object, ["metadata", "annotations", annotation], ""))
	msg := sprintf("%s has no owner. Set the annotation %s to who answers for it%s.", [lib.name, annotation, form])
}

form := "" if pattern == `\S`

else := sprintf(" (it must match %s)", [pattern])
