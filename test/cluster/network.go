package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// The bridge is in the control plane's network namespace. The host is joined
// to it by one veth pair and each node by another, so all links end with the
// namespaces.

// connectHost joins the host to the control plane.
func connectHost(ctx context.Context, controlPlane *Machine) error {
	host := hostPlace()
	return ipBatch(ctx, nil,
		fmt.Sprintf("link add %s type veth peer name host netns %d", hostLink, controlPlane.Init.PID),
		fmt.Sprintf("addr add %s/24 dev %s", host.ip4, hostLink),
		fmt.Sprintf("addr add %s/64 dev %s nodad", host.ip6, hostLink),
		fmt.Sprintf("link set %s up", hostLink))
}

// makeBridge prepares the control plane's network namespace.
func makeBridge(ctx context.Context, controlPlane *Machine) error {
	place := controlPlanePlace()
	err := setSysctls(ctx, controlPlane, map[string]string{
		"net/ipv4/ip_forward":          "0",
		"net/ipv6/conf/all/forwarding": "0",
	})
	if err != nil {
		return err
	}
	return ipBatch(ctx, controlPlane,
		"link set lo up",
		"link add br0 type bridge",
		"link set host master br0",
		"link set host up",
		fmt.Sprintf("addr add %s/24 dev br0", place.ip4),
		fmt.Sprintf("addr add %s/64 dev br0 nodad", place.ip6),
		"link set br0 up")
}

// connectNode joins a node to the bridge, and tells the control plane how to
// reach its pods.
func connectNode(ctx context.Context, controlPlane, node *Machine, at place) error {
	err := ipBatch(ctx, controlPlane,
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", at.name, node.Init.PID),
		fmt.Sprintf("link set %s master br0", at.name),
		fmt.Sprintf("link set %s up", at.name),
		fmt.Sprintf("route add %s via %s", at.pod4, at.ip4),
		fmt.Sprintf("route add %s via %s", at.pod6, at.ip6))
	if err != nil {
		return err
	}
	err = setSysctls(ctx, node, map[string]string{
		"net/ipv4/ip_forward":             "1",
		"net/ipv6/conf/all/forwarding":    "1",
		"net/ipv4/conf/all/rp_filter":     "0",
		"net/ipv4/conf/default/rp_filter": "0",
	})
	if err != nil {
		return err
	}
	// There is nothing beyond the control plane, which forwards nothing. But
	// without a default route the node's own processes could not connect to a
	// Service: the kernel looks for a route before it translates the address.
	up := controlPlanePlace()
	batch := []string{
		"link set lo up",
		fmt.Sprintf("addr add %s/24 dev eth0", at.ip4),
		fmt.Sprintf("addr add %s/64 dev eth0 nodad", at.ip6),
		"link set eth0 up",
		fmt.Sprintf("route add default via %s", up.ip4),
		fmt.Sprintf("route add default via %s", up.ip6),
	}
	for n := 1; n <= nodeCount; n++ {
		if other := nodePlace(n); other.name != at.name {
			batch = append(batch,
				fmt.Sprintf("route add %s via %s", other.pod4, other.ip4),
				fmt.Sprintf("route add %s via %s", other.pod6, other.ip6))
		}
	}
	return ipBatch(ctx, node, batch...)
}

// ipBatch runs ip(8) commands in the network namespace of a machine, or of the
// host if m is nil. Process ids in the commands are the host's.
func ipBatch(ctx context.Context, m *Machine, lines ...string) error {
	args := []string{"ip", "-batch", "-"}
	where := "the host"
	if m != nil {
		args = append([]string{"nsenter", "-t", strconv.Itoa(m.Init.PID), "-n", "--"}, args...)
		where = m.Name
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("network of %s: ip: %w", where, err)
	}
	return nil
}

func setSysctls(ctx context.Context, m *Machine, values map[string]string) error {
	var script strings.Builder
	script.WriteString("set -e\n")
	for key, value := range values {
		fmt.Fprintf(&script, "echo %s >/proc/sys/%s\n", value, key)
	}
	_, err := m.Exec(ctx, "sh", "-c", script.String())
	return err
}

// removeHostLink removes the host's end of the lab's network. The kernel
// would do so too when the control plane's namespace ends, but later.
func removeHostLink(ctx context.Context) error {
	if _, err := os.Stat("/sys/class/net/" + hostLink); err != nil {
		return nil
	}
	if err := ipBatch(ctx, nil, "link del "+hostLink); err != nil {
		if _, gone := os.Stat("/sys/class/net/" + hostLink); gone != nil {
			return nil
		}
		return err
	}
	return nil
}
