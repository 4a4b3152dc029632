// Package certmanager tests the chart on a cluster in which cert-manager
// issues the webhook's certificate: the real controller of cert-manager, built
// from its Go module and run beside the lab. The newest version that can be
// built so is v1.11; its API, cert-manager.io/v1, is today's.
package certmanager
