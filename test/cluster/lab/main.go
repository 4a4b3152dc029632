// Command lab boots, inspects and takes down a real Kubernetes cluster of two
// nodes on this machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tierwall/tierwall/test/cluster"
)

func main() {
	err := run()
	var status exitStatus
	if errors.As(err, &status) {
		os.Exit(int(status))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// run runs the command line until it is done or told to stop.
func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return command().ExecuteContext(ctx)
}

// exitStatus is that of a command that was run for the caller.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "lab",
		Short: "A real Kubernetes cluster of two nodes on this machine",
		Long: `lab boots a real Kubernetes cluster on this machine: etcd, kube-apiserver,
kube-controller-manager, kube-scheduler, and two nodes with kubelet, containerd
and kube-proxy, dual stack, with CoreDNS. Each lives in its own namespaces. The
programs are built once, into $TIERWALL_CACHE (default ~/.cache/tierwall). The
cluster's state is in $TIERWALL_LAB (default /var/lib/tierwall-lab). It needs root.

  lab packages     install the Debian packages that the lab needs
  lab up           boot it
  export KUBECONFIG=$(lab kubeconfig); $(lab program kubectl) get pods -A
  lab down         take it down, with every trace`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(packagesCommand(), buildCommand(), upCommand(), downCommand(), statusCommand(),
		kubeconfigCommand(), programCommand(), loadCommand(), execCommand(), logsCommand())
	return root
}

func packagesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "packages",
		Short: "Install the Debian packages that are missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cluster.InstallPackages(cmd.Context(), os.Stderr)
		},
	}
}

func buildCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "build [conformance]",
		Short:     "Build the programs that are not built yet; with conformance, the upstream tests too",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"conformance"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return cluster.Build(cmd.Context(), os.Stderr, len(args) == 1)
		},
	}
}

func upCommand() *cobra.Command {
	options := cluster.Options{Log: os.Stderr}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Boot the lab, in place of one that runs or crashed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Up(cmd.Context(), options)
			if err != nil {
				return err
			}
			fmt.Printf("export KUBECONFIG=%s\n", c.Kubeconfig())
			return nil
		},
	}
	cmd.Flags().StringVar(&options.ProxyMode, "proxy-mode", cluster.ProxyIPTables, "mode of kube-proxy: iptables or nftables")
	cmd.Flags().StringVar(&options.IPTables, "iptables", cluster.IPTablesNFT, "variant of iptables that the nodes use: nft or legacy")
	cmd.Flags().StringArrayVar(&options.Images, "image", nil, "image archive to import into both nodes (repeatable)")
	return cmd
}

func downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the lab and remove every trace of it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cluster.Down(cmd.Context(), cluster.DefaultDir())
		},
	}
}

func statusCommand() *cobra.Command {
	return attached(&cobra.Command{
		Use:   "status",
		Short: "Show machines, daemons and their logs; the exit status reports whether the lab runs",
		Args:  cobra.NoArgs,
	}, func(_ context.Context, c *cluster.Cluster, _ []string) error {
		c.WriteStatus(os.Stdout)
		return nil
	})
}

func kubeconfigCommand() *cobra.Command {
	return attached(&cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the path of the administrator's kubeconfig",
		Args:  cobra.NoArgs,
	}, func(_ context.Context, c *cluster.Cluster, _ []string) error {
		fmt.Println(c.Kubeconfig())
		return nil
	})
}

func programCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "program NAME",
		Short: "Print the path of a built program: kubectl, helm, etcd, agnhost, e2e.test, ...",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := cluster.Program(args[0])
			if err != nil {
				return err
			}
			fmt.Println(path)
			return nil
		},
	}
}

func loadCommand() *cobra.Command {
	return attached(&cobra.Command{
		Use:   "load IMAGE.tar...",
		Short: "Import image archives into both nodes",
		Args:  cobra.MinimumNArgs(1),
	}, func(ctx context.Context, c *cluster.Cluster, args []string) error {
		return c.LoadImages(ctx, args...)
	})
}

func execCommand() *cobra.Command {
	return attached(&cobra.Command{
		Use:     "exec MACHINE -- COMMAND...",
		Short:   "Run a command inside the namespaces of a node, or of the control plane",
		Example: "  lab exec tw-node-1 -- iptables-save\n  lab exec tw-control-plane -- ip route",
		Args:    cobra.MinimumNArgs(2),
	}, func(ctx context.Context, c *cluster.Cluster, args []string) error {
		m, err := c.Machine(args[0])
		if err != nil {
			return err
		}
		cmd := m.Command(ctx, args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		err = cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exitStatus(exit.ExitCode())
		}
		return err
	})
}

func logsCommand() *cobra.Command {
	return attached(&cobra.Command{
		Use:   "logs [MACHINE/]DAEMON",
		Short: "Print the log of a daemon: etcd, kube-apiserver, kubelet, containerd, kube-proxy, ...",
		Args:  cobra.ExactArgs(1),
	}, func(_ context.Context, c *cluster.Cluster, args []string) error {
		return c.WriteLogs(os.Stdout, args[0])
	})
}

// attached makes a command that works on the running lab.
func attached(cmd *cobra.Command, run func(context.Context, *cluster.Cluster, []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := cluster.Attach()
		if err != nil {
			return err
		}
		return run(cmd.Context(), c, args)
	}
	return cmd
}
