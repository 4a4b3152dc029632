// Package bundle keeps the guardrails of a bundle as new as its source has them.
// A bundle comes into force only whole, signed, sound and newer than the one before;
// whatever else happens, the last good one stays.
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

// PollState is how it stands with the bundle.
type PollState struct {
	// Revision is in force; 0 is none.
	Revision int64
	// Polled is whether the source was asked once, with whatever answer.
	Polled bool
	// Err is why what the source has is not, or nil.
	Err error
}

// Poller asks a source for a bundle again and again. Every replica does.
type Poller struct {
	Source   BundleSource
	Keys     rego.Keys
	Interval time.Duration
	// Use puts a bundle into force.
	Use func(*rego.Bundle)
	// Changed is called after State changed.
	Changed func()
	// Floor is the newest revision that was ever in force in the cluster. Without it a
	// replica that starts could be given an old bundle.
	Floor func(context.Context) (int64, error)
	// File keeps the last good bundle, for a restart while the source is away; empty keeps none.
	File string
	Log  *slog.Logger

	tag    string
	digest [sha256.Size]byte

	mu    sync.Mutex
	state PollState
}

// NeedLeaderElection is false: every replica judges.
func (*Poller) NeedLeaderElection() bool { return false }

// State is how it stands now.
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
		jitter := time.Duration(rand.Int64N(int64(p.Interval)/5 + 1)) // replicas need not ask at once
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(p.Interval + jitter):
		}
	}
}

// loadKeptBundle begins with the bundle that the file keeps.
func (p *Poller) loadKeptBundle(ctx context.Context) {
	if p.File == "" {
		return
	}
	packed, err := os.ReadFile(p.File)
	if err == nil {
		err = p.activateBundle(ctx, packed)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.Log.WarnContext(ctx, "the bundle that was kept cannot be used", "file", p.File, "err", err)
	}
}

// pollOnce asks once.
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
		p.Log.WarnContext(ctx, "the bundle is not renewed; the last good one stays in force", "revision", state.Revision, "err", err)
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
	p.tag = tag // only of what is in force, so that what is refused is refused again
	return p.writeKeptBundle(packed)
}

// activateBundle puts a bundle into force if it is a good one, and not older than what was.
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
	p.Log.InfoContext(ctx, "a bundle comes into force", "revision", b.Revision, "guardrails", b.Names())
	return nil
}

// writeKeptBundle writes the bundle to the file, whole or not at all.
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
