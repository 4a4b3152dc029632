# METADATA
# title: Every rule decides something
# description: >-
#   Warns of a rule that never decides, since others decide before it for all that it
#   matches: it is there for nothing, or worse, somebody relies on it.
# custom:
#   severity: medium
package tierwall.guardrails.rules_decide

import data.tierwall.lib

warn contains {"msg": msg, "path": rule} if {
	some [policy, rule], others in shadowed
	msg := sprintf("%s: the rule at %s never decides, as %s decides first, and not the same. Put it before, or remove it.", [policy, rule, concat(", ", others)])
}

warn contains {"msg": msg, "path": rule} if {
	some [policy, rule], others in redundant
	msg := sprintf("%s: the rule at %s adds nothing to %s. Remove it, unless it is to stay when the other one goes.", [policy, rule, concat(", ", others)])
}

shadowed[[ref.policy, ref.rule]] contains ref.by if some ref in input.effect.lint.shadowedBy

redundant[[ref.policy, ref.rule]] contains ref.by if some ref in input.effect.lint.redundantWith

warn contains lib.unjudged[_]
