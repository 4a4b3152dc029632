package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long to wait after a change of the directories. Other programs often rewrite a configuration in
	// steps, and may react to each of our changes.
	settle = 200 * time.Millisecond
	// lookEvery is the interval between checks without a change.
	lookEvery = 10 * time.Second
)

// KeepInstalled installs the plugin, and again whenever another program rewrites the configuration, as network plugins do
// at their start, until ctx ends. It retries what fails.
func (n Node) KeepInstalled(ctx context.Context, s Settings, log *slog.Logger) error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the CNI configuration: %w", err)
	}
	defer watch.Close()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	said := ""
	for {
		// The directory may be new, so it is added each time.
		watchErr := errors.Join(watch.Add(n.ConfDir), watch.Add(n.BinDir))
		changed, err := n.Install(s)
		if err = errors.Join(err, watchErr); err != nil && err.Error() != said {
			log.Warn("installing the CNI plugin failed; retrying", "err", err)
		}
		if said = ""; err != nil {
			said = err.Error()
		}
		if changed {
			log.Info("CNI plugin installed", "confDir", n.ConfDir)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-watch.Events:
			waitForChange(ctx, watch)
		case err := <-watch.Errors:
			log.Warn("watching the CNI configuration failed", "err", err)
		}
	}
}

// waitForChange waits until changes have settled.
func waitForChange(ctx context.Context, watch *fsnotify.Watcher) {
	done := time.After(settle)
	for {
		select {
		case <-ctx.Done():
			return
		case <-done:
			return
		case <-watch.Events:
		}
	}
}
