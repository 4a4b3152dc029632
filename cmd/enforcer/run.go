package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/backend"
	"github.com/tierwall/tierwall/enforcer/droplog"
	"github.com/tierwall/tierwall/enforcer/revoke"
	"github.com/tierwall/tierwall/internal/delegated"
	"github.com/tierwall/tierwall/internal/flags"
	"github.com/tierwall/tierwall/internal/memlimit"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
)

// options are the flags of the node agent.
type options struct {
	node        string
	defaults    flags.Defaults
	backend     string
	logDenials  int
	dropSpoofed bool
	cniSocket   string
	metricsAddr string
	metricsCert string
	healthAddr  string
	logLevel    string
}

func newRunCommand() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "enforcer",
		Short: "Keep this node's packet filter equal to the network policies of the cluster",
		Long: `Keep this node's packet filter, nftables or iptables, equal to the network policies of the cluster.

Needs the capabilities NET_ADMIN and NET_RAW in the node's network namespace,
and a service account that may read pods, namespaces, nodes and policies.
When it stops, the last program stays in force; "enforcer cleanup" removes it.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	fs := cmd.Flags()
	fs.StringVar(&o.node, "node-name", "", "name of this node in the cluster (required)")
	o.defaults.AddTo(fs)
	fs.StringVar(&o.backend, "backend", backend.Auto, "what to write rules with: "+strings.Join(backend.Drivers.Names(), ", ")+
		"; auto follows kube-proxy and the node, and is nftables with IPVS")
	fs.IntVar(&o.logDenials, "log-denials", 0, "log so many denied first packets a second at most, with who was denied what by which policy; 0 logs none. What the default action Audit lets pass is logged in any case, at the same rate, or "+strconv.Itoa(standardAudits)+" a second if it is 0")
	fs.BoolVar(&o.dropSpoofed, "drop-spoofed", true, "drop what a pod sends from an address that is not its own, where the node's routes tell which interface is one pod's own")
	fs.StringVar(&o.cniSocket, "cni-socket", "", "where to answer the node's CNI plugin, so that new pods wait for their rules; empty answers none")
	fs.StringVar(&o.metricsAddr, "metrics-bind-address", ":9466", "address of the metrics, HTTPS with delegated authentication; 0 serves none")
	fs.StringVar(&o.metricsCert, "metrics-cert-dir", "", "directory with tls.crt and tls.key of the metrics; while there is none, they are served with a self-signed certificate")
	fs.StringVar(&o.healthAddr, "health-probe-bind-address", "127.0.0.1:9467", "address of /healthz and /readyz")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// memoryShare is the share of the container's memory limit that the Go runtime tries to stay within at most. The rest is
// for the tools that write rules, which run in the same container.
const memoryShare = 0.6

func (o *options) run(ctx context.Context) error {
	if o.node == "" {
		return errors.New("--node-name: say which node this is")
	}
	log, err := flags.Logger(o.logLevel)
	if err != nil {
		return err
	}
	if limit, ok := memlimit.Apply(memoryShare); ok {
		log.Info("the soft memory limit is set", "bytes", limit)
	}
	defaults, err := o.defaults.Parse()
	if err != nil {
		return err
	}
	kernel := backend.Options{Name: o.backend, LogDenials: o.logDenials, LogAudits: auditRate(defaults, o.logDenials), Log: log}
	chosen, err := backend.Drivers.Open(ctx, kernel)
	if err != nil {
		return err
	}
	config, err := apiConfig()
	if err != nil {
		return err
	}
	record, err := nodeEvents(ctx, config, o.node)
	if err != nil {
		return err
	}
	agent, work, err := o.newAgent(config, defaults, chosen, record, log)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	enforcer.RegisterMetrics(registry, agent)
	addRevoker(work, agent, chosen, log)
	addDenials(work, registry, agent, kernel)
	addGuard(work, registry, agent, o.dropSpoofed, chosen, log)
	addCNI(work, registry, agent, o.cniSocket, log)
	paths := addPathCheck(work, registry, agent, chosen, record, log)
	work.addTask(func(ctx context.Context) error { return serveHealth(ctx, o.healthAddr, agent, paths) })
	if err := addMetrics(work, registry, config, o, log); err != nil {
		return err
	}
	return work.run(ctx)
}

// apiConfig is how the API server is reached: by the file of KUBECONFIG, from inside of a cluster, or by the user's file.
func apiConfig() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	config.QPS = -1 // the API server's own fairness is enough
	return config, nil
}

// newAgent makes the agent, and has it work.
func (o *options) newAgent(config *rest.Config, defaults policy.Defaults, chosen backend.Choice, record recordEvent, log *slog.Logger) (*enforcer.Enforcer, *tasks, error) {
	watcher, err := clustercache.New(config, defaults, log)
	if err != nil {
		return nil, nil, err
	}
	agent := &enforcer.Enforcer{Node: o.node, Defaults: defaults, Source: watcher,
		Backend: chosen.Backend, Predecessor: chosen.Predecessor, Mended: record.recordRepair, Log: log}
	if defaults.Action == policy.Deny {
		agent.Boot = func(ctx context.Context) (*compile.Snapshot, error) { return bootState(ctx, config, o.node, defaults) }
	}
	return agent, &tasks{watcher.Start, agent.Start}, nil
}

// addMetrics serves the metrics, unless that is not wanted.
func addMetrics(work *tasks, registry *prometheus.Registry, config *rest.Config, o *options, log *slog.Logger) error {
	if o.metricsAddr == "0" {
		return nil
	}
	guard, err := delegated.New(config, log)
	if err != nil {
		return err
	}
	own, err := selfSigned()
	if err != nil {
		return fmt.Errorf("make a certificate for the metrics: %w", err)
	}
	certificate := &metricsCertificate{dir: o.metricsCert, selfSigned: own, log: log}
	work.addTask(func(ctx context.Context) error {
		return serveMetrics(ctx, o.metricsAddr, registry, guard.Handler, certificate)
	})
	return nil
}

// addRevoker has connections cut that a program denies, where the kernel lets it.
func addRevoker(work *tasks, agent *enforcer.Enforcer, chosen backend.Choice, log *slog.Logger) {
	table, err := chosen.OpenConnections()
	if err != nil {
		log.Warn("connections that are established stay when a change denies them", "err", err)
		return
	}
	r := revoke.New(table, revoke.Options{Log: log, Report: func(report revoke.Report) { enforcer.ObserveRevoked(report.Cut) }})
	agent.Revoker = r
	work.addTask(func(ctx context.Context) error {
		defer table.Close()
		return r.Start(ctx)
	})
}

// standardAudits is how many packets that Audit lets pass are logged a second, of each
// direction, where nothing is said about denials.
const standardAudits = 10

// auditRate is how many of them are logged: a default action that reports what it lets
// pass would mean nothing if it did not.
func auditRate(d policy.Defaults, logDenials int) int {
	switch {
	case !d.Audits():
		return 0
	case logDenials > 0:
		return logDenials
	default:
		return standardAudits
	}
}

// addDenials logs packets that are denied or audited, where rules hand any over.
func addDenials(work *tasks, registry *prometheus.Registry, agent *enforcer.Enforcer, o backend.Options) {
	if o.LogDenials <= 0 && o.LogAudits <= 0 {
		return
	}
	d := droplog.New(droplog.Options{Group: droplog.Group, Log: o.Log, Name: agent.Source.(*clustercache.Watcher).Names().Of})
	droplog.RegisterMetrics(registry)
	agent.Listeners = append(agent.Listeners, d)
	work.addTask(d.Start)
}

// bootState is the node alone, without a pod or a policy: everything at its pod
// addresses is unknown, and so denied.
func bootState(ctx context.Context, config *rest.Config, node string, defaults policy.Defaults) (*compile.Snapshot, error) {
	n, err := clustercache.ReadNode(ctx, config, node)
	if err != nil {
		return nil, err
	}
	return &compile.Snapshot{Nodes: []*compile.Node{n}, Defaults: defaults}, nil
}
