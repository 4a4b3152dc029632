// Package admission tests the webhook against the real kube-apiserver, with
// what the chart installs: its configurations, admission policies and
// permissions. Run it with
//
//	go test -tags admission ./test/admission
//
// The API server and etcd run on the loopback interface and end with the test.
// They are those that package cluster builds; the test fails where they were
// not built (go run ./test/cluster/lab build).
package admission
