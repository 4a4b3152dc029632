package iptables

import (
	"context"
	"errors"
	"os/exec"
)

// leftover is a table of the mode that is not in use. Chains of ours that an earlier
// process left in it go on denying what they denied last.
type leftover struct {
	family Family
	mode   Mode
	// failure is why it could not be swept the last time.
	failure string
}

// leftoversBeside are the tables that may hold chains of ours where a mode is in use.
func leftoversBeside(m Mode) []*leftover {
	other := NFT
	if m == NFT {
		other = Legacy
	}
	var out []*leftover
	for _, f := range families {
		out = append(out, &leftover{family: f, mode: other})
	}
	return out
}

// sweep removes what is ours from the table. Without its tools we cannot have written it.
func (l *leftover) sweep(ctx context.Context) error {
	t, err := openTable(l.family, l.mode)
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.removeAll(ctx)
}

// sweepLeftovers removes the chains in the other mode, once ours are in force in
// this one. What cannot be read or removed is kept for the next time.
func (b *Backend) sweepLeftovers(ctx context.Context) {
	var left []*leftover
	for _, l := range b.leftovers {
		err := l.sweep(ctx)
		if err == nil {
			continue
		}
		if failure := err.Error(); failure != l.failure {
			b.log.Error("removing rules of the other mode failed; retrying",
				"mode", l.mode, "family", l.family, "err", err)
			l.failure = failure
		}
		left = append(left, l)
	}
	b.leftovers = left
}
