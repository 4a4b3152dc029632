// Package chart holds the tests of the Helm chart: what Helm renders of it, and
// whether Kubernetes would take that. Helm is built from its Go module.
package chart
