// Package cluster boots the lab: a real Kubernetes cluster of two nodes and a
// control plane on one Linux machine, for tests, for the demo and for a
// developer's afternoon.
//
// Everything is real: etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler, and on each node kubelet, containerd, kube-proxy and a ptp
// CNI network, dual stack. The components are built once from their Go modules
// (see [Build]) and kept outside the repository.
//
// The control plane and the nodes are [Machine]s: each a set of Linux
// namespaces that hang from one process. The bridge that joins them lives in
// the control plane's network namespace, and the host reaches it over one veth
// pair. Ending the three processes therefore ends the cluster, with its
// networks, mounts and pods.
//
//	c, err := cluster.Up(ctx, cluster.Options{})
//	defer c.Down(ctx)
//	out, err := c.Nodes()[0].Exec(ctx, "iptables-save")
package cluster
