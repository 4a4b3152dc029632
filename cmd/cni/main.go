// Command tierwall-cni is tierwall's CNI plugin, which a container runtime runs without arguments; with
// arguments it puts itself into a node's network configuration, or takes itself out.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/tierwall/tierwall/enforcer/cni"
	"github.com/tierwall/tierwall/enforcer/cni/install"
	"github.com/tierwall/tierwall/enforcer/cni/plugin"
	"github.com/tierwall/tierwall/internal/version"
)

func main() {
	if len(os.Args) < 2 {
		skel.PluginMainFuncs(plugin.Functions(), plugin.Versions, "CNI plugin "+cni.Type+" "+version.Version)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1], os.Args[2:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, cni.Type+":", err)
		os.Exit(1)
	}
}

const usage = `Usage: tierwall-cni install|remove|check-installed|check-removed [flags]

  install           put the plugin into the node's network configuration, and keep it there
  remove            take it out; with --stay, wait to be told to stop
  check-installed   fail unless it is in
  check-removed     fail unless it is out

Without arguments it is the CNI plugin.
`

// run does one of the things that the plugin does for itself.
func run(ctx context.Context, verb string, args []string) error {
	node, settings := install.Node{}, install.Settings{}
	fs := flag.NewFlagSet(verb, flag.ExitOnError)
	fs.Usage = func() { fmt.Fprint(fs.Output(), usage); fs.PrintDefaults() }
	fs.StringVar(&node.BinDir, "bin-dir", "/opt/cni/bin", "where the container runtime looks for plugins")
	fs.StringVar(&node.ConfDir, "conf-dir", "/etc/cni/net.d", "where it looks for configurations")
	fs.StringVar(&settings.Socket, "socket", cni.Socket, "where the node agent listens")
	fs.IntVar(&settings.TimeoutSeconds, "timeout-seconds", int(plugin.DefaultTimeout.Seconds()), "how long a pod waits before its start is tried again")
	exempt := fs.String("exempt-namespaces", "kube-system", "namespaces, separated by commas, whose pods start without a node agent")
	stay := fs.Bool("stay", false, "stay once the plugin is removed")
	if err := fs.Parse(args); err != nil {
		return err
	}
	settings.ExemptNamespaces = strings.FieldsFunc(*exempt, func(r rune) bool { return r == ',' })
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	var err error
	if node.Program, err = os.Executable(); err != nil {
		return fmt.Errorf("find the program itself: %w", err)
	}
	switch verb {
	case "install":
		return node.KeepInstalled(ctx, settings, log)
	case "remove":
		if err := node.Remove(); err != nil || !*stay {
			return err
		}
		log.Info("the CNI plugin is removed")
		<-ctx.Done()
		return nil
	case "check-installed":
		return node.CheckInstalled()
	case "check-removed":
		return node.CheckRemoved()
	}
	fs.Usage()
	return fmt.Errorf("%q is not understood", verb)
}
