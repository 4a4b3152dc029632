# METADATA
# title: Guarded roles are bound by service account
# description: >-
#   Who may create pods in a namespace chooses their labels; their service account can be kept
#   from them by RBAC. So a TierRole that gives a guarded role names service accounts.
# custom:
#   severity: high
#   parameters:
#     roles:
#       type: texts
#       means: the guarded roles
#       default: [data]
package tierwall.guardrails.roles_by_account

import data.tierwall.lib

roles := lib.parameter("roles", ["data"])

deny contains {"msg": msg, "path": "/spec/serviceAccounts"} if {
	input.object.kind == "TierRole"
	input.object.spec.role in roles
	count(object.get(input.object.spec, "serviceAccounts", [])) == 0
	msg := sprintf("%s gives role %s to pods of any service account. Name the service accounts of the pods that are to hold it.", [lib.name, input.object.spec.role])
}
