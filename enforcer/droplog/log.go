package droplog

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/eval"
)

// Group is the NFLOG group that the node agent's rules hand denied and audited packets to.
const Group = 9466

// Options say what to listen to. Group and Log are required.
type Options struct {
	// Group is the NFLOG group that the rules hand denied and audited packets to.
	Group uint16
	// Log gets a line for each packet, with the message "denied" or "audited".
	Log *slog.Logger
	// Name gives the name of the pod at an address, as "namespace/name", or nothing. It is
	// asked for peers that the program has no endpoint for. Nil knows none.
	Name func(netip.Addr) string
}

const (
	// queueSize is how many packets may wait to be explained.
	queueSize = 512
	// retryAfter is the wait before listening is tried again.
	retryAfter = 5 * time.Second
)

// Log is the log of what was denied, and of what Audit let pass.
type Log struct {
	options Options
	program atomic.Pointer[policy.Program]
	queue   chan report
	listen  func(ctx context.Context, group uint16, take func(way, []byte), overflow func()) error
	names   *names
}

// New makes a log, which has nothing to say before the first program.
func New(o Options) *Log {
	return &Log{options: o, queue: make(chan report, queueSize), listen: listen, names: newNames()}
}

// Use explains packets by the program from now on. It never waits. The program
// must not be changed afterwards.
func (l *Log) Use(p *policy.Program) { l.program.Store(p) }

// Start logs until ctx ends. The group is that of the network namespace of the calling thread.
func (l *Log) Start(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.explain(ctx)
	}()
	defer func() { <-done }()
	for {
		err := l.listen(ctx, l.options.Group, l.take, func() { lost.WithLabelValues("kernel").Inc() })
		if ctx.Err() != nil {
			return nil
		}
		l.options.Log.Error("cannot listen to denied packets; trying again", "group", l.options.Group, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryAfter):
		}
	}
}

// take queues a packet, or counts it as lost.
func (l *Log) take(w way, b []byte) {
	p, ok := decode(b)
	if !ok {
		return
	}
	select {
	case l.queue <- report{p, w}:
	default:
		lost.WithLabelValues("agent").Inc()
	}
}

// explain writes and counts what is queued, until ctx ends.
func (l *Log) explain(ctx context.Context) {
	var program *policy.Program
	var e *eval.Evaluator
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-l.queue:
			now := l.program.Load()
			if now == nil {
				now = &policy.Program{}
			}
			switch {
			case e == nil:
				program, e = now, eval.New(now)
			case now != program:
				program, e = now, e.Next(now) // a new index of everything for each program would be expensive
			}
			l.write(ctx, explain(e, p))
		}
	}
}

func (l *Log) write(ctx context.Context, d denial) {
	if d.peer == "" && l.options.Name != nil {
		d.peer = l.options.Name(d.peerAddr())
	}
	l.names.count(d)
	l.options.Log.LogAttrs(ctx, slog.LevelInfo, d.way.String(), d.attrs()...)
}
