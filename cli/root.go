// Package cli is the command line: what a security team and CI ask of policies
// before they are live. docs/cli.md is its manual.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tierwall/tierwall/internal/version"
)

// The exit statuses of every command.
const (
	// Fine is that there is nothing to object to.
	Fine = 0
	// Violated is that a guardrail denies, a test fails or a flow is denied.
	Violated = 1
	// Unusable is a command line that is wrong, or input that cannot be read.
	Unusable = 2
	// Unknown is that the facts are missing that decide whether a flow is allowed.
	Unknown = 3
)

// Streams are the standard ones.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// errViolated ends a command whose answer, which it has given, is no.
var errViolated = errors.New("violated")

// errUnknown ends a command whose answer, which it has given, is that it cannot be known.
var errUnknown = errors.New("unknown")

// Run runs the command line, whose first argument is the program's own name, and
// returns the exit status.
func Run(ctx context.Context, args []string, s Streams) int {
	root := newRoot(args[0], s)
	root.SetArgs(args[1:])
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return Fine
	case errors.Is(err, errViolated):
		return Violated
	case errors.Is(err, errUnknown):
		return Unknown
	case errors.Is(err, errTold):
	default:
		fmt.Fprintln(s.Err, "tierwall: "+err.Error())
	}
	return Unusable
}

// errTold is for input that cannot be read, which the output has told already.
var errTold = errors.New("unreadable")

func newRoot(program string, s Streams) *cobra.Command {
	name := "tierwall"
	if strings.HasPrefix(filepath.Base(program), "kubectl-tierwall") {
		name = "kubectl tierwall" // cobra takes what is before the blank for the name
	}
	root := &cobra.Command{
		Use:   strings.ReplaceAll(name, " ", "-"),
		Short: "Judge, compare and explain network policies before they are live",
		Long: `Judge, compare and explain network policies before they are live.

What webhook and node agents do with a policy, this does with manifests: it reads
them with the same compiler and judges them by the same guardrails.

Exit status: 0 fine; 1 a guardrail denies, a test fails, a flow is denied;
2 the command line or the input is wrong; 3 it cannot be known, as facts are missing.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: name},
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.AddCommand(newCheck(), newDiff(), newExplain(), newTest(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			fmt.Fprintln(c.OutOrStdout(), "tierwall", version.Version)
			return nil
		},
	}
}

// byFlag refuses arguments, and says by which flag they are given.
func byFlag(flag string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return fmt.Errorf("%q is not understood: it needs a flag, as in %q", args[0], c.CommandPath()+" "+flag+" "+args[0])
	}
}

// knownFormat is an error unless --output is one of those.
func knownFormat(value string, allowed ...string) error {
	for _, a := range allowed {
		if a == value {
			return nil
		}
	}
	return fmt.Errorf("--output %q: want one of %s", value, strings.Join(allowed, ", "))
}

// isTerminal reports whether a stream is a terminal, which is no source of manifests.
func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
