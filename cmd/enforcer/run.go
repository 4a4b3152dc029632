package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/tierwall/tierwall/cluster"
	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/backend"
	"github.com/tierwall/tierwall/enforcer/droplog"
	"github.com/tierwall/tierwall/enforcer/revoke"
	"github.com/tierwall/tierwall/internal/flags"
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
	fs.StringVar(&o.backend, "backend", backend.Auto, "what to write rules with: "+strings.Join(backend.Names, ", ")+
		"; auto follows kube-proxy and the node")
	fs.IntVar(&o.logDenials, "log-denials", 0, "log so many denied first packets a second at most, with who was denied what by which policy; 0 logs none. What the default action Audit lets pass is logged in any case, at the same rate, or "+strconv.Itoa(standardAudits)+" a second if it is 0")
	fs.BoolVar(&o.dropSpoofed, "drop-spoofed", true, "drop what a pod sends from an address that is not its own, where the node's routes tell which interface is one pod's own")
	fs.StringVar(&o.cniSocket, "cni-socket", "", "where to answer the node's CNI plugin, so that new pods wait for their rules; empty answers none")
	fs.StringVar(&o.metricsAddr, "metrics-bind-address", ":9466", "address of the metrics, HTTPS with delegated authentication; 0 serves none")
	fs.StringVar(&o.healthAddr, "health-probe-bind-address", "127.0.0.1:9467", "address of /healthz and /readyz")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func (o *options) run(ctx context.Context) error {
	if o.node == "" {
		return errors.New("--node-name: say which node this is")
	}
	log, err := flags.Logger(o.logLevel)
	if err != nil {
		return err
	}
	defaults, err := o.defaults.Parse()
	if err != nil {
		return err
	}
	kernel := backend.Options{Name: o.backend, LogDenials: o.logDenials, LogAudits: audits(defaults, o.logDenials), Log: log}
	chosen, err := backend.Open(ctx, kernel)
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	mgr, err := newManager(config, o)
	if err != nil {
		return err
	}
	agent, err := newAgent(config, o.node, defaults, chosen, log)
	if err != nil {
		return err
	}
	agent.Mended = repairEvents(mgr, o.node)
	if err := errors.Join(addRevoker(mgr, agent, log), addDenials(mgr, agent, kernel), addGuard(mgr, agent, o.dropSpoofed, chosen.Sources, log), addCNI(mgr, agent, o.cniSocket, log)); err != nil {
		return err
	}
	if err := errors.Join(mgr.Add(agent.Source.(*cluster.Watcher)), mgr.Add(agent), addChecks(mgr, agent)); err != nil {
		return fmt.Errorf("set up the manager: %w", err)
	}
	enforcer.RegisterMetrics(metrics.Registry, agent)
	return mgr.Start(ctx)
}

func newManager(config *rest.Config, o *options) (manager.Manager, error) {
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: cluster.Scheme(),
		Metrics: metricsserver.Options{
			BindAddress: o.metricsAddr, SecureServing: true,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
		HealthProbeBindAddress: o.healthAddr,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the manager: %w", err)
	}
	return mgr, nil
}

func newAgent(config *rest.Config, node string, defaults policy.Defaults, chosen backend.Choice, log *slog.Logger) (*enforcer.Enforcer, error) {
	watcher, err := cluster.New(config, defaults, log)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make an API client: %w", err)
	}
	agent := &enforcer.Enforcer{Node: node, Defaults: defaults, Source: watcher,
		Backend: chosen.Backend, Predecessor: chosen.Predecessor, Log: log}
	if defaults.Action == policy.Deny {
		agent.Boot = func(ctx context.Context) (*compile.Snapshot, error) { return bootState(ctx, client, node, defaults) }
	}
	return agent, nil
}

// addRevoker has connections cut that a program denies, where the kernel lets it.
func addRevoker(mgr manager.Manager, agent *enforcer.Enforcer, log *slog.Logger) error {
	table, err := revoke.Open()
	if err != nil {
		log.Warn("connections that are established stay when a change denies them", "err", err)
		return nil
	}
	r := revoke.New(table, revoke.Options{Log: log, Report: func(report revoke.Report) { enforcer.ObserveRevoked(report.Cut) }})
	agent.Revoker = r
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		defer table.Close()
		return r.Start(ctx)
	}))
}

// standardAudits is how many packets that Audit lets pass are logged a second, of each
// direction, where nothing is said about denials.
const standardAudits = 10

// audits is how many of them are logged: a default action that reports what it lets
// pass would mean nothing if it did not.
func audits(d policy.Defaults, logDenials int) int {
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
func addDenials(mgr manager.Manager, agent *enforcer.Enforcer, o backend.Options) error {
	if o.LogDenials <= 0 && o.LogAudits <= 0 {
		return nil
	}
	d := droplog.New(droplog.Options{Group: droplog.Group, Log: o.Log, Name: agent.Source.(*cluster.Watcher).Names().Of})
	droplog.RegisterMetrics(metrics.Registry)
	agent.Listeners = append(agent.Listeners, d)
	return mgr.Add(manager.RunnableFunc(d.Start))
}

// bootState is the node alone, without a pod or a policy: everything at its pod
// addresses is unknown, and so denied.
func bootState(ctx context.Context, client kubernetes.Interface, node string, defaults policy.Defaults) (*compile.Snapshot, error) {
	n, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read node %s: %w", node, err)
	}
	return &compile.Snapshot{Nodes: []*compile.Node{cluster.Node(n)}, Defaults: defaults}, nil
}

// addChecks serves /healthz, which says that the agent's loop goes round, and /readyz,
// which says that what the cluster asks for is in force in the kernel.
func addChecks(mgr manager.Manager, agent *enforcer.Enforcer) error {
	inForce := func(*http.Request) error {
		if !agent.InForce() {
			return errors.New("the policies of the cluster are not in force on this node yet")
		}
		return nil
	}
	alive := func(*http.Request) error {
		if still := agent.Stuck(); still > 0 {
			return fmt.Errorf("the agent's loop has stood still for %v", still)
		}
		return nil
	}
	return errors.Join(mgr.AddHealthzCheck("alive", alive), mgr.AddReadyzCheck("in-force", inForce))
}
