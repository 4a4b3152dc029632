// Package selftest asks a running installation of tierwall, through the API
// server alone, whether it does its work. "helm test" runs it.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Installation is what is tested.
type Installation struct {
	Client client.Client
	// Namespace is the release's, Name what its objects' names begin with.
	Namespace, Name string
	// PolicyNamespace is a namespace under default deny, where a policy that opens
	// everything has to be refused. Empty leaves that out.
	PolicyNamespace string
	// Poll is the time between two attempts at a check that fails.
	Poll time.Duration
}

// A check is one thing that an installation has to do.
type check struct {
	name string
	run  func(context.Context) error
}

func (i *Installation) checks() []check {
	all := []check{
		{"the policies are in force on every node", i.enforcersReady},
		{"the webhook answers", i.webhookReady},
		{"the API server asks the webhook", i.webhookAsked},
		{"a guardrail that is no Rego is refused", i.nonsenseRefused},
	}
	if i.PolicyNamespace != "" {
		all = append(all, check{"a policy that opens everything is refused", i.openPolicyRefused})
	}
	return all
}

// Check runs the checks, again and again until all pass or ctx ends, and
// writes a line about each. The error tells of all that failed.
func (i *Installation) Check(ctx context.Context, w io.Writer) error {
	open, failed := i.checks(), map[string]error{}
	_ = wait.PollUntilContextCancel(ctx, i.Poll, true, func(ctx context.Context) (bool, error) {
		open = i.attempt(ctx, w, open, failed)
		return len(open) == 0, nil
	})
	var errs []error
	for _, c := range open {
		errs = append(errs, fmt.Errorf("%s: %w", c.name, failed[c.name]))
		_, _ = fmt.Fprintf(w, "FAILED  %s: %v\n", c.name, failed[c.name])
	}
	return errors.Join(errs...)
}

// attempt runs checks once and returns those that fail, with the reasons in
// failed. That there is no time left is no reason where there was one before.
func (i *Installation) attempt(ctx context.Context, w io.Writer, checks []check, failed map[string]error) (open []check) {
	for _, c := range checks {
		err := c.run(ctx)
		if err == nil {
			_, _ = fmt.Fprintf(w, "ok      %s\n", c.name)
			continue
		}
		open = append(open, c)
		if ctx.Err() == nil || failed[c.name] == nil {
			failed[c.name] = err
		}
	}
	return open
}

func (i *Installation) key(suffix string) client.ObjectKey {
	return client.ObjectKey{Namespace: i.Namespace, Name: i.Name + suffix}
}

func (i *Installation) enforcersReady(ctx context.Context) error {
	var ds appsv1.DaemonSet
	if err := i.Client.Get(ctx, i.key("-enforcer"), &ds); err != nil {
		return fmt.Errorf("read the enforcers' DaemonSet: %w", err)
	}
	s := ds.Status
	if s.ObservedGeneration < ds.Generation || s.DesiredNumberScheduled == 0 ||
		s.UpdatedNumberScheduled < s.DesiredNumberScheduled || s.NumberReady < s.DesiredNumberScheduled {
		return fmt.Errorf("%d of %d enforcers are ready, %d of them up to date",
			s.NumberReady, s.DesiredNumberScheduled, s.UpdatedNumberScheduled)
	}
	return nil
}

func (i *Installation) webhookReady(ctx context.Context) error {
	var d appsv1.Deployment
	if err := i.Client.Get(ctx, i.key("-webhook"), &d); err != nil {
		return fmt.Errorf("read the webhook's Deployment: %w", err)
	}
	if d.Status.ReadyReplicas == 0 {
		return fmt.Errorf("none of its %d replicas is ready", d.Status.Replicas)
	}
	return nil
}

func (i *Installation) webhookAsked(ctx context.Context) error {
	var config admissionv1.ValidatingWebhookConfiguration
	if err := i.Client.Get(ctx, client.ObjectKey{Name: i.Name}, &config); err != nil {
		return fmt.Errorf("read the webhook configuration: %w", err)
	}
	if len(config.Webhooks) == 0 {
		return errors.New("the webhook configuration is still empty; the webhook fills it once it can answer")
	}
	return nil
}
