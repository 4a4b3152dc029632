// Package effect computes what a change of the cluster's objects opens and closes, which guardrails judge. It is pure,
// and interprets policies with package compile alone, so that what is judged is what will be enforced.
//
// Its files are in layers. A file refers to files of its own layer and of those above it in this list:
//
//	result      effect, part: the JSON form
//	basics      snapshots, labels, labelrequirements, order, numbering, prefixindex
//	terms       terms, policyreader, vocabulary, samplelabels: what policies mention
//	pods        podgroup, rolecandidates, podmodel, grouping, hypothetical, relevance: pods as policies can tell them apart
//	programs    addresspool, representative, compiledstate, classview, networktree: the compiled states before and after
//	comparison  portspans, classevaluator, opening, comparison: what the one allows and the other does not
//	rows        finding, rowlist, roleports, rows, isolation, lint, nearmatch, shadowedrules: the effect, part by part
//	entry       narrowing, compute, calculator, canonlyclose, labelsmatter: what other packages call
//
// docs/design/effect.md follows one change through them.
package effect
