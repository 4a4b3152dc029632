# METADATA
# title: Policies have something to act on
# description: Warns of a policy that selects no pod, of peers that match none, and of port names that none has.
# custom:
#   severity: low
package tierwall.guardrails.dead_policies

import data.tierwall.lib

warn contains {"msg": msg, "path": sprintf("/spec/%s", [selector])} if {
	input.effect.lint.selectsNothing
	msg := sprintf("%s selects no pod that exists%s; pods that come later will be selected.", [lib.name, advice(
		lib.name,
		sprintf("/spec/%s", [selector]),
		sprintf("Check the labels of its %s", [selector]),
	)])
}

selector := "subject" if lib.kind == "ClusterNetworkPolicy"

else := "podSelector"

# Why pods that are there do not count, or what to look at where there are none.
advice(policy, rule, otherwise) := sprintf(": %s", [concat(", and ", reasons)]) if {
	reasons := [text |
		some near in object.get(input, ["effect", "lint", "nearMatches"], [])
		near.policy == policy
		near.rule == rule
		text := sprintf("%s %s", [some_pods(near), why[near.reason][near.pods == 1]])
	]
	count(reasons) > 0
} else := sprintf(". %s", [otherwise])

some_pods(near) := near.pod if near.pods == 1

else := sprintf("%s and %d more", [near.pod, near.pods - 1])

why := {
	"ended": {true: "has ended", false: "have ended"},
	"hostNetwork": {true: "is on the host network, where policies do not apply", false: "are on the host network, where policies do not apply"},
	"otherNamespace": {true: "has these labels in another namespace", false: "have these labels in other namespaces"},
}

warn contains {"msg": msg, "path": dead.rule} if {
	some dead in input.effect.lint.deadPeers
	msg := sprintf("%s: the peer at %s matches no pod that exists%s.", [dead.policy, dead.rule, advice(dead.policy, dead.rule, "Check its labels and its namespace")])
}

warn contains {"msg": msg, "path": port.rule} if {
	some port in input.effect.lint.namedPortsUnresolved
	msg := sprintf("%s: no pod that the rule concerns has the port named at %s. Check the names of the container ports.", [port.policy, port.rule])
}

warn contains lib.unjudged[_]
