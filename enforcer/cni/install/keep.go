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
	// settle is how long after a change of the directories they are looked at: who
	// rewrites a configuration often does it in steps, and may answer every change of ours.
	settle = 200 * time.Millisecond
	// lookEvery is how often they are looked at in any case.
	lookEvery = 10 * time.Second
)

// Keep installs the plugin, and again whenever somebody else rewrites the configuration, as network
// plugins do at their own start, until ctx ends. What cannot be done now is tried again.
func (n Node) Keep(ctx context.Context, s Settings, log *slog.Logger) error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the CNI configuration: %w", err)
	}
	defer watch.Close()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	said := ""
	for {
		// Added again each time: the directory may be new.
		watchErr := errors.Join(watch.Add(n.ConfDir), watch.Add(n.BinDir))
		changed, err := n.Install(s)
		if err = errors.Join(err, watchErr); err != nil && err.Error() != said {
			log.Warn("the CNI plugin is not installed; trying again", "err", err)
		}
		if said = ""; err != nil {
			said = err.Error()
		}
		if changed {
			log.Info("the CNI plugin is in the chain: pods wait for their rules", "confDir", n.ConfDir)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-watch.Events:
			pause(ctx, watch)
		case err := <-watch.Errors:
			log.Warn("the CNI configuration cannot be watched well", "err", err)
		}
	}
}

// pause lets changes come together.
func pause(ctx context.Context, watch *fsnotify.Watcher) {
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
