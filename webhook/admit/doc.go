// Package admit answers the API server's admission requests. Handlers decode and validate objects of one
// kind; the Reviewer, which they share, judges what a change opens by the guardrails in force.
//
// From handlers downwards, references run one way:
//
//	handlers   policies.go, tierroles.go, guardrails.go, namespaces.go, podlabels.go, rolelabel.go
//	reviewer   reviewer.go, slots.go (bounds concurrent reviews)
//	states     inflight.go, hypothesis.go (what the cluster may be when the change happens)
//	changes    change.go, kinds.go, decode.go (what a request changes)
//	responses  response.go, violationtext.go, metrics.go
//
// Decisions depend on the request and the cluster, never on who the user is.
package admit
