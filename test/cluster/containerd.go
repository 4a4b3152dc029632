package cluster

import (
	"context"
	"fmt"
	"path/filepath"
)

const pauseImage = "registry.k8s.io/pause:3.10.1"

// containerdConfig disables what this package does not need and what a
// machine without CAP_SYS_RESOURCE, without the hugetlb controller, or without
// other file systems cannot do.
const containerdConfig = `version = 2
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
`

func containerdDaemon(dir string) *daemon {
	return &daemon{Name: "containerd", Args: []string{
		"/usr/bin/containerd", "--config", filepath.Join(dir, "containerd.toml"), "--log-level", "info",
	}}
}

// waitContainerd waits until containerd answers.
func waitContainerd(ctx context.Context, m *Machine) error {
	return poll(ctx, "containerd on "+m.Name, func() error {
		_, err := m.Exec(ctx, "ctr", "version")
		return err
	})
}

// importImage imports an image archive for kubelet to use.
func importImage(ctx context.Context, m *Machine, archive string) error {
	archive, err := filepath.Abs(archive)
	if err != nil {
		return err
	}
	if _, err := m.Exec(ctx, "ctr", "-n", "k8s.io", "images", "import", archive); err != nil {
		return fmt.Errorf("import image: %w", err)
	}
	return nil
}
