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

// Group is the NFLOG group that the node agent's rules send denied and audited packets to.
const Group = 9466

// Options say what to listen to. Group and Log are required.
type Options struct {
	// Group is the NFLOG group that the rules send denied and audited packets to.
	Group uint16
	// Log gets a line for each packet, with the message "denied" or "audited".
	Log *slog.Logger
	// Name returns the name of the pod at an address, as "namespace/name", or nothing. It is called for peers that are no
	// endpoint of the program. It may be nil.
	Name func(netip.Addr) string
}

const (
	// queueSize is how many packets may wait to be explained.
	queueSize = 512
	// retryAfter is the wait before listening is tried again.
	retryAfter = 5 * time.Second
)

// Log logs denied packets, and those that Audit allowed.
type Log struct {
	options Options
	program atomic.Pointer[policy.Program]
	queue   chan loggedPacket
	listen  func(ctx context.Context, group uint16, take func(packetKind, []byte), overflow func()) error
	names   *boundedNames
}

// New returns a Log, which explains nothing before the first program.
func New(o Options) *Log {
	return &Log{options: o, queue: make(chan loggedPacket, queueSize), listen: listenNFLOG, names: newBoundedNames()}
}

// Use switches to the program without blocking. The program must not be changed afterwards.
func (l *Log) Use(p *policy.Program) { l.program.Store(p) }

// Start logs until ctx ends. The group is that of the network namespace of the calling thread.
func (l *Log) Start(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.explainQueued(ctx)
	}()
	defer func() { <-done }()
	for {
		err := l.listen(ctx, l.options.Group, l.queuePacket, func() { lost.WithLabelValues("kernel").Inc() })
		if ctx.Err() != nil {
			return nil
		}
		l.options.Log.Error("listening to denied packets failed; retrying", "group", l.options.Group, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryAfter):
		}
	}
}

// queuePacket queues a packet, or counts it as lost.
func (l *Log) queuePacket(w packetKind, b []byte) {
	p, ok := decodePacket(b)
	if !ok {
		return
	}
	select {
	case l.queue <- loggedPacket{p, w}:
	default:
		lost.WithLabelValues("agent").Inc()
	}
}

// explainQueued logs and counts queued packets until ctx ends.
func (l *Log) explainQueued(ctx context.Context) {
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
			l.writeLine(ctx, explainDenial(e, p))
		}
	}
}

func (l *Log) writeLine(ctx context.Context, d denial) {
	if d.peer == "" && l.options.Name != nil {
		d.peer = l.options.Name(d.peerAddr())
	}
	l.names.countDenial(d)
	l.options.Log.LogAttrs(ctx, slog.LevelInfo, d.kind.String(), d.logAttributes()...)
}
