# METADATA
# title: What guardrails share
# description: >-
#   Words for messages, and questions about the rows of an effect. A guardrail of your
#   own may import it too.
package tierwall.lib

# METADATA
# description: The object that is judged, or that goes when it is deleted.
judged := input.object if is_object(input.object)

else := input.oldObject if is_object(input.oldObject)

else := {}

# METADATA
# description: The object's kind and name, such as "NetworkPolicy prod/backend".
name := sprintf("%s %s/%s", [kind, judged.metadata.namespace, own_name]) if {
	judged.metadata.namespace != ""
} else := sprintf("%s %s", [kind, own_name]) if own_name

else := "The change"

# METADATA
# description: The object's kind.
kind := judged.kind if judged.kind

else := input.request.kind.kind if input.request.kind.kind

else := "object"

# A pod of a controller has no name yet when it is judged.
own_name := judged.metadata.name if judged.metadata.name

else := input.request.name if object.get(input, ["request", "name"], "") != ""

else := sprintf("%s*", [judged.metadata.generateName])

# METADATA
# description: How a message begins; "would" can follow it.
change := sprintf("Deleting %s", [name]) if {
	not is_object(input.object)
	is_object(input.oldObject)
} else := sprintf("The labels of %s", [name]) if {
	is_object(input.oldObject)
	labelled_kind
} else := sprintf("The default action of %s", [name]) if {
	input.source == "audit"
	kind == "Namespace"
} else := name

# What these open they open by their labels.
labelled_kind := kind in {"Pod", "Binding", "Namespace"}

# METADATA
# description: >-
#   The field at fault, given that of a policy: what opens something of a pod or a
#   namespace is its labels.
at(field) := {true: "/metadata/labels", false: field}[labelled_kind]

# METADATA
# description: A parameter of the Guardrail object, or the default.
parameter(key, otherwise) := object.get(object.get(input, "parameters", {}), key, otherwise)

# METADATA
# description: >-
#   Whether an added row opens something. An egress row that is blocked opens nothing: the
#   ingress row that would unblock it is judged when it comes. An ingress row counts even
#   when the other side cannot use it yet.
opens(row) if row.direction == "ingress"

opens(row) if not row.blocked

# METADATA
# description: Messages that say why the effect cannot be judged; none when it can.
unjudged contains sprintf("%s cannot be judged, as its effect is not known: %s. Make the change smaller, or ask your administrator.", [change, reasons]) if {
	not input.effect.complete
	known := concat("; ", object.get(input, ["effect", "incomplete"], []))
	reasons := {true: "the effect is incomplete", false: known}[known == ""]
}

unjudged contains sprintf("%s cannot be judged, as it opens too much to list. Make it narrower, or split it.", [change]) if {
	object.get(input, ["effect", "truncated"], true)
}

# METADATA
# description: A side of a row in words, such as "frontend pods of namespace prod".
describe(peer) := sprintf("addresses in %s", [peer.name]) if peer.kind == "cidr"

else := sprintf("%s of namespace %s", [pods(peer), peer.namespace]) if peer.namespace != ""

else := sprintf("%s of any namespace", [pods(peer)]) if count(object.get(peer, "namespaceLabels", {})) == 0

else := sprintf("%s of any namespace with labels %s", [pods(peer), written(peer.namespaceLabels)])

# METADATA
# description: >-
#   Several sides in words, at most four of them. Pods that do not exist yet are left out
#   when there are others.
list(peers) := some_of(sort(there)) if {
	there := {describe(peer) | some peer in peers; peer.kind != "class"}
	count(there) > 0
} else := some_of(sort({describe(peer) | some peer in peers}))

some_of(texts) := concat(", ", texts) if count(texts) <= 4

else := sprintf("%s and %d others", [concat(", ", array.slice(texts, 0, 3)), count(texts) - 3])

# METADATA
# description: The sides of rows, given as pairs of from and to.
froms(pairs) := {from | some [from, _] in pairs}

# METADATA
# description: The other sides.
tos(pairs) := {to | some [_, to] in pairs}

# Pods that do not exist yet are known by their labels.
pods(peer) := sprintf("possible %s%s", [held(peer), suffix]) if {
	peer.kind == "class"
	labels := {k: v | some k, v in object.get(peer, "labels", {}); k != "tierwall.io/tier-role"}
	suffix := {true: "", false: sprintf(" with labels %s", [written(labels)])}[count(labels) == 0]
} else := held(peer)

held(peer) := sprintf("%s pods", [peer.role]) if peer.role != ""

else := "pods"

written(labels) := concat(",", sort([sprintf("%s=%s", [k, v]) | some k, v in labels]))

# METADATA
# description: A row's ports in words, such as "TCP/5432, UDP/53".
ports(row) := in_words(row.ports)

# Rows share their ports, so that what is asked of these alone is asked once.
in_words(texts) := "every port" if "any" in texts

else := concat(", ", texts)

# METADATA
# description: A row's ports that are numbers, as protocol, first and last.
ranges(row) := numbers_of(row.ports)

numbers_of(texts) := [{"protocol": protocol, "first": to_number(ends[0]), "last": to_number(ends[count(ends) - 1])} |
	some text in texts
	regex.match(numbered, text)
	[protocol, numbers] := split(text, "/")
	ends := split(numbers, "-")
]

numbered := `^[A-Z]+/\d+(-\d+)?$`

# METADATA
# description: >-
#   A row's ports that are names, such as "TCP/http". No pod has a port of that name yet, and
#   the one that comes may give it any number.
named(row) := {text |
	some text in row.ports
	contains(text, "/")
	not regex.match(numbered, text)
}

# METADATA
# description: Whether any of the row's ports covers the protocol and port number.
covers(row, protocol, port) if covering(row.ports, protocol, port)

covering(texts, _, _) if "any" in texts

covering(texts, protocol, port) if {
	some range in numbers_of(texts)
	range.protocol == protocol
	range.first <= port
	port <= range.last
}

# METADATA
# description: Whether a row is about half of all ports of a protocol, or more.
wide(row) if half(row.ports)

half(texts) if "any" in texts

half(texts) if {
	some range in numbers_of(texts)
	range.last - range.first >= 32767
}

# METADATA
# description: Whether a row's side is a network that lies in none of the networks.
outside(peer, networks) if {
	peer.kind == "cidr"
	not inside(peer.name, networks)
}

inside(cidr, networks) if {
	some network in networks
	net.cidr_contains(network, cidr)
}

# METADATA
# description: Networks that are not the world (RFC 1918, RFC 6598, RFC 4193).
private := ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"]

# METADATA
# description: Whether a row's side is a network that has addresses in common with any of the networks.
meets(peer, networks) if {
	peer.kind == "cidr"
	some network in networks
	net.cidr_intersects(peer.name, network)
	not inside(network, object.get(peer, "except", []))
}

# METADATA
# description: The side of a row that its own policies are about.
own(row) := {"ingress": row.to, "egress": row.from}[row.direction]

# METADATA
# description: The other side of a row.
other(row) := {"ingress": row.from, "egress": row.to}[row.direction]
