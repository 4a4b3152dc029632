// Package bundle polls a source for bundles of guardrails. A bundle comes into force if it is signed,
// valid, and newer than the current one. Otherwise the last good bundle stays in force.
package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tierwall/tierwall/rego"
)

// PollState is the bundle's status.
type PollState struct {
	// Revision is the revision in force; 0 means none.
	Revision int64
	// Polled is true after the first poll, whether or not it succeeded.
	Polled bool
	// Err is why the source's current bundle is not in force, or nil.
	Err error
}

// Poller polls a source for bundles. Every replica runs one.
type Poller struct {
	Source   BundleSource
	Keys     rego.Keys
	Interval time.Duration
	// Use puts a bundle in force.
	Use func(*rego.Bundle)
	// Changed is called after State changed.
	Changed func()
	// Floor returns the newest revision that was ever in force in the cluster. It protects a replica
	// that starts from being given an old bundle.
	Floor func(context.Context) (int64, error)
	// File keeps the last good bundle for a restart while the source is unavailable; empty keeps none.
	File string
	Log  *slog.Logger

	tag    string
	digest [sha256.Size]byte

	mu    sync.Mutex
	state PollState
}

// NeedLeaderElection returns false: every replica judges requests.
func (*Poller) NeedLeaderElection() bool { return false }

// State returns the current status.
func (p *Poller) State() PollState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Start polls until ctx ends.
func (p *Poller) Start(ctx context.Context) error {
	p.loadKeptBundle(ctx)
	for {
		p.pollOnce(ctx)
		jitter := time.Duration(rand.Int64N(int64(p.Interval)/5 + 1)) // spreads the replicas' requests
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(p.Interval + jitter):
		}
	}
}

// loadKeptBundle activates the bundle in the file, if there is one.
func (p *Poller) loadKeptBundle(ctx context.Context) {
	if p.File == "" {
		return
	}
	packed, err := os.ReadFile(p.File)
	if err == nil {
		err = p.activateBundle(ctx, packed)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.Log.WarnContext(ctx, "loading the kept bundle failed", "file", p.File, "err", err)
	}
}

// pollOnce polls the source, and updates the state and the metrics.
func (p *Poller) pollOnce(ctx context.Context) {
	err := p.fetchAndActivate(ctx)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	changed := fmt.Sprint(p.state.Err) != fmt.Sprint(err)
	p.state.Err, p.state.Polled = err, true
	state := p.state
	p.mu.Unlock()
	if changed {
		p.Changed()
	}
	revision.Set(float64(state.Revision))
	if err != nil {
		failures.Inc()
		p.Log.WarnContext(ctx, "polling the bundle failed; the last good one stays in force", "revision", state.Revision, "err", err)
		return
	}
	success.SetToCurrentTime()
}

func (p *Poller) fetchAndActivate(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	packed, tag, err := p.Source.Fetch(limited, p.tag)
	if err != nil || packed == nil {
		return err
	}
	if err := p.activateBundle(ctx, packed); err != nil {
		return err
	}
	p.tag = tag // only of a bundle in force, so that a refused one is fetched again
	return p.writeKeptBundle(packed)
}

// activateBundle verifies a bundle, and puts it in force if it is newer than all before it.
func (p *Poller) activateBundle(ctx context.Context, packed []byte) error {
	digest := sha256.Sum256(packed)
	current := p.State().Revision
	if current != 0 && digest == p.digest {
		return nil
	}
	b, err := rego.ReadBundle(ctx, packed, p.Keys)
	if err != nil {
		return err
	}
	floor, err := p.Floor(ctx)
	if err != nil {
		return fmt.Errorf("find the newest revision that was in force: %w", err)
	}
	switch {
	case b.Revision < max(floor, current):
		return fmt.Errorf("the bundle's revision %d is older than %d, which was in force", b.Revision, max(floor, current))
	case b.Revision == current:
		return fmt.Errorf("the bundle has revision %d again, with other contents", b.Revision)
	}
	p.Use(b)
	p.digest = digest
	p.mu.Lock()
	p.state.Revision = b.Revision
	p.mu.Unlock()
	p.Log.InfoContext(ctx, "bundle activated", "revision", b.Revision, "guardrails", b.Names())
	return nil
}

// writeKeptBundle replaces the file by the bundle, atomically.
func (p *Poller) writeKeptBundle(packed []byte) error {
	if p.File == "" {
		return nil
	}
	next, err := os.CreateTemp(filepath.Dir(p.File), ".bundle-")
	if err != nil {
		return fmt.Errorf("keep the bundle: %w", err)
	}
	_, err = next.Write(packed)
	if err = errors.Join(err, next.Sync(), next.Close()); err == nil {
		err = os.Rename(next.Name(), p.File)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep the bundle: %w", err), os.Remove(next.Name()))
	}
	return nil
}
