package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/webhook/server"
)

const usage = `tierwall webhook: judges policies by guardrails, and labels pods with their tier role.

It runs in the cluster that it works for, in two replicas or more, and tells the
API server itself to ask it once it can answer.

Flags:
`

// settings are what the command line says.
type settings struct {
	options  server.Options
	webhooks string
	level    slog.Level
	version  bool
}

// parse reads the command line; what is wrong with it is told on standard error.
func parse(args []string) (settings, error) {
	s := settings{}
	o := &s.options
	o.AwaitEndpoints = true
	o.Defaults.Namespaces = map[string]policy.Verdict{}
	f := flag.NewFlagSet("webhook", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), usage)
		f.PrintDefaults()
	}
	f.Func("default-action", "what happens to traffic that no policy decided: `Deny` or Allow (default Deny)", func(v string) (err error) {
		o.Defaults.Action, err = policy.ParseAction(v)
		return err
	})
	f.Func("exempt-namespaces", "`namespaces` whose default action is Allow in any case, separated by commas", func(v string) error {
		o.Defaults.Exempt = strings.FieldsFunc(v, func(r rune) bool { return r == ',' })
		return nil
	})
	f.Func("namespace-default-action", "the default action of a namespace, as `namespace=action`; can be repeated", func(v string) error {
		return setAction(o.Defaults.Namespaces, v)
	})
	f.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "the namespace that the webhook runs in")
	f.StringVar(&o.Service, "service", "tierwall-webhook", "the webhook's Service, and the Lease by which one replica is chosen")
	f.StringVar(&o.CertificateDir, "cert-dir", "", "directory with tls.crt, tls.key and ca.crt; empty makes the replicas issue their own certificates")
	f.StringVar(&o.AuthoritySecret, "ca-secret", "tierwall-webhook-ca", "the Secret that the replicas share their own authority in")
	f.StringVar(&s.webhooks, "admission-config", "/etc/tierwall/admission/webhooks.yaml", "the `file` with what the webhook configurations are to hold")
	f.StringVar(&o.Validating, "validating-configuration", "tierwall", "the ValidatingWebhookConfiguration")
	f.StringVar(&o.Mutating, "mutating-configuration", "tierwall", "the MutatingWebhookConfiguration")
	f.IntVar(&o.Port, "webhook-port", 9443, "where the API server's requests are answered")
	f.StringVar(&o.MetricsAddress, "metrics-bind-address", ":8443", "where metrics are served over HTTPS, to whom the API server lets read them; 0 is nowhere")
	f.StringVar(&o.HealthAddress, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served over HTTP")
	f.TextVar(&s.level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	f.BoolVar(&s.version, "version", false, "print the version and exit")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	return s, s.check(f)
}

// setAction adds what an argument of --namespace-default-action says.
func setAction(actions map[string]policy.Verdict, arg string) error {
	namespace, action, ok := strings.Cut(arg, "=")
	if !ok || namespace == "" {
		return errors.New("want namespace=action")
	}
	verdict, err := policy.ParseAction(action)
	actions[namespace] = verdict
	return err
}

func (s settings) check(f *flag.FlagSet) error {
	err := error(nil)
	switch {
	case s.version:
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case s.options.Namespace == "":
		err = errors.New("--namespace is not given")
	}
	if err != nil {
		fmt.Fprintf(f.Output(), "%v\n", err)
	}
	return err
}

// exitStatus is that of the process after an error of parse.
func exitStatus(err error) int {
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	return 2
}
