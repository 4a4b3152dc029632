# METADATA
# title: Policies have something to act on
# description: Warns of a policy that selects no pod, of peers that match none, and of port names that none has.
# custom:
#   severity: low
package tierwall.guardrails.dead_policies

import data.tierwall.lib

warn contains {"msg": msg, "path": sprintf("/spec/%s", [selector])} if {
	input.effect.lint.selectsNothing
	msg := sprintf("%s selects no pod that exists. Check the labels of its %s; pods that come later will be selected.", [lib.name, selector])
}

selector := "subject" if lib.kind == "ClusterNetworkPolicy"

else := "podSelector"

warn contains {"msg": msg, "path": dead.rule} if {
	some dead in input.effect.lint.deadPeers
	msg := sprintf("%s: the peer at %s matches no pod that exists. Check its labels and its namespace.", [dead.policy, dead.rule])
}

warn contains {"msg": msg, "path": port.rule} if {
	some port in input.effect.lint.namedPortsUnresolved
	msg := sprintf("%s: no pod that the rule concerns has the port named at %s. Check the names of the container ports.", [port.policy, port.rule])
}

warn contains lib.unjudged[_]
