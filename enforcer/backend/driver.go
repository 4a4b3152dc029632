package backend

import (
	"context"
	"log/slog"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/revoke"
	"github.com/tierwall/tierwall/enforcer/spoof"
)

// Driver is one kind of backend: how it is detected, opened and removed.
type Driver interface {
	// Names are the values of Options.Name that open it. The first is the driver's own name, which Auto chooses.
	Names() []string
	// IsPreferred reports whether the node is set up for it. It changes nothing.
	IsPreferred(ctx context.Context) bool
	// Open opens the backend. It changes nothing before the first Apply. What denies packets logs them as the
	// options say.
	Open(ctx context.Context, o Options) (Instance, error)
	// OpenPredecessor opens what an earlier agent may have left, under any of the driver's names. An error means
	// that the node lacks the tools, so that nothing was left.
	OpenPredecessor(ctx context.Context, log *slog.Logger) (enforcer.Predecessor, error)
	// SourceGuards are all guards against forged sources that the driver's instances may choose.
	SourceGuards() []spoof.Kernel
}

// Instance is an opened backend with what belongs to it.
type Instance struct {
	enforcer.Backend
	// Sources drops what pods send from addresses of others.
	Sources spoof.Kernel
	// OpenConnections opens the connections that the backend's rules let pass, so that those a change denies are cut.
	OpenConnections func() (Connections, error)
	// BeforeIPVS reports whether the rules judge a packet before IPVS replaces a Service's address.
	BeforeIPVS bool
}

// Connections is a table of connections, closed by whoever opened it.
type Connections interface {
	revoke.Table
	Close()
}

// openConntrack opens the kernel's connection tracking, which all rules of netfilter share.
func openConntrack() (Connections, error) { return revoke.Open() }

// Options say what to open. Log is required.
type Options struct {
	// Name is Auto or a name of a driver.
	Name string
	// LogDenials is how many denied packets a second are handed to droplog.Group, LogAudits
	// how many of those that Audit lets pass, of each direction; 0 is none.
	LogDenials, LogAudits int
	Log                   *slog.Logger
}
