package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// ErrAway is returned if no agent answers.
var ErrAway = errors.New("the node agent does not answer")

// grace is how long the agent may take to answer after the request's timeout.
const grace = time.Second

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 64 << 10

// redial is the wait before an agent that was away is called again.
const redial = 100 * time.Millisecond

// Call sends a request to the agent once, and waits for the answer for at most the request's timeout. The error is ErrAway
// if there was none, and else says what the agent found missing.
func Call(ctx context.Context, socket string, r Request) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout+grace)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(0, 1)) })()
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	var a Answer
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&a); err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	if a.Missing != "" {
		return errors.New(a.Missing)
	}
	return nil
}

// CallUntilTimeout calls the agent again while it is away, as during its upgrade, until the request's timeout.
func CallUntilTimeout(ctx context.Context, socket string, r Request) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	for {
		deadline, _ := ctx.Deadline()
		r.Timeout = time.Until(deadline)
		err := Call(context.WithoutCancel(ctx), socket, r)
		if !errors.Is(err, ErrAway) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(redial):
		}
	}
}
