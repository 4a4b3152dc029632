package registration

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/webhook/certificate"
)

// resyncInterval is the time between comparisons without changes.
const resyncInterval = 10 * time.Second

// Reconciler keeps the two configurations. One replica at a time does.
type Reconciler struct {
	Webhooks Webhooks
	// Validating and Mutating are the names of the configurations.
	Validating, Mutating string
	// Cache holds the two configurations.
	Cache cache.Cache
	// Client reads from Cache and writes to the API server.
	Client client.Client
	// Source has the authority to publish.
	Source certificate.CertificateSource
	// Ready returns why the webhook cannot answer yet, or nil.
	Ready func(context.Context) error
	Log   *slog.Logger
}

// NeedLeaderElection returns true: during a rotation, replicas would overwrite each other's CA bundles.
func (*Reconciler) NeedLeaderElection() bool { return true }

// Start keeps the configurations until ctx ends.
func (k *Reconciler) Start(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	for _, kind := range []client.Object{&admissionv1.ValidatingWebhookConfiguration{}, &admissionv1.MutatingWebhookConfiguration{}} {
		if err := k.watch(ctx, kind, changed); err != nil {
			return err
		}
	}
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-k.Source.Changed():
		case <-time.After(wait):
		}
		wait = resyncInterval
		if err := k.reconcileConfigurations(ctx); err != nil {
			k.Log.WarnContext(ctx, "reconciling webhook configurations failed; retrying", "err", err)
			wait = time.Second
		}
	}
}

func (k *Reconciler) watch(ctx context.Context, kind client.Object, changed chan<- struct{}) error {
	informer, err := k.Cache.GetInformer(ctx, kind)
	if err != nil {
		return fmt.Errorf("watch %T: %w", kind, err)
	}
	mark := func(any) {
		select {
		case changed <- struct{}{}:
		default: // one is waiting already
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: mark, UpdateFunc: func(_, now any) { mark(now) }, DeleteFunc: mark,
	})
	if err != nil {
		return fmt.Errorf("watch %T: %w", kind, err)
	}
	context.AfterFunc(ctx, func() { _ = informer.RemoveEventHandler(registration) })
	return nil
}

// reconcileConfigurations updates both configurations if they differ from the desired contents.
func (k *Reconciler) reconcileConfigurations(ctx context.Context) error {
	if err := k.Ready(ctx); err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	authority, err := k.Source.Authority(ctx)
	if err != nil {
		return err
	}
	if err := k.reconcileValidating(ctx, authority); err != nil {
		return fmt.Errorf("ValidatingWebhookConfiguration %s: %w", k.Validating, err)
	}
	if err := k.reconcileMutating(ctx, authority); err != nil {
		return fmt.Errorf("MutatingWebhookConfiguration %s: %w", k.Mutating, err)
	}
	return nil
}

func (k *Reconciler) reconcileValidating(ctx context.Context, authority []byte) error {
	config := &admissionv1.ValidatingWebhookConfiguration{}
	if err := k.Client.Get(ctx, types.NamespacedName{Name: k.Validating}, config); err != nil {
		return err
	}
	bundle, err := certificate.AuthorityBundle(authority, currentCABundle(config), time.Now())
	if err != nil {
		return err
	}
	want := k.Webhooks.validatingWithBundle(bundle)
	if config.DeletionTimestamp != nil || equalWebhooks(config.Webhooks, want) {
		return nil
	}
	config = config.DeepCopy()
	config.Webhooks = want
	return k.update(ctx, config)
}

func (k *Reconciler) reconcileMutating(ctx context.Context, authority []byte) error {
	config := &admissionv1.MutatingWebhookConfiguration{}
	if err := k.Client.Get(ctx, types.NamespacedName{Name: k.Mutating}, config); err != nil {
		return err
	}
	var had []byte
	if len(config.Webhooks) > 0 {
		had = config.Webhooks[0].ClientConfig.CABundle
	}
	bundle, err := certificate.AuthorityBundle(authority, had, time.Now())
	if err != nil {
		return err
	}
	want := k.Webhooks.mutatingWithBundle(bundle)
	if config.DeletionTimestamp != nil || equalWebhooks(config.Webhooks, want) {
		return nil
	}
	config = config.DeepCopy()
	config.Webhooks = want
	return k.update(ctx, config)
}

func (k *Reconciler) update(ctx context.Context, config client.Object) error {
	err := k.Client.Update(ctx, config)
	if apierrors.IsConflict(err) {
		return nil // the cache is behind; its next event starts another attempt
	}
	if err == nil {
		k.Log.InfoContext(ctx, "webhook configuration updated", "configuration", config.GetName())
	}
	return err
}

// PublishedCABundle returns the CA bundle that the API server verifies the webhook by. It is empty while the
// configuration has no webhooks.
func PublishedCABundle(ctx context.Context, reader client.Reader, validating string) ([]byte, error) {
	config := &admissionv1.ValidatingWebhookConfiguration{}
	err := reader.Get(ctx, types.NamespacedName{Name: validating}, config)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read ValidatingWebhookConfiguration %s: %w", validating, err)
	}
	return currentCABundle(config), nil
}

func currentCABundle(config *admissionv1.ValidatingWebhookConfiguration) []byte {
	if len(config.Webhooks) == 0 {
		return nil
	}
	return config.Webhooks[0].ClientConfig.CABundle
}
