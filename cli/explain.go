package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tierwall/tierwall/cli/explain"
	"github.com/tierwall/tierwall/cli/report"
)

// explainFlags are those of explain.
type explainFlags struct {
	source
	files          []string
	from, to, port string
	format         string
}

func newExplain() *cobra.Command {
	f := &explainFlags{}
	c := &cobra.Command{
		Use:   "explain --from POD --to POD --port PORT [-f PATH...]",
		Short: "Say whether one pod may reach another, by which rule, and what would have to be different",
		Long: `Say whether one pod may reach another, by which rule, and what would have to be different.

A side is namespace/pod, namespace/deployment/name (or sts, ds, job, cronjob),
or an address. Without a folder it is the live cluster that is asked about.

Exit status: 0 allowed, 1 denied, 2 the question or the input is wrong.`,
		Example: `  tierwall explain --cluster --from shop/web-0 --to shop/db-0 --port 5432/TCP
  tierwall explain -f manifests/ --from shop/deploy/web --to 192.0.2.7 --port 443`,
		Args: byFlag("--from"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), f.timeout)
			defer cancel()
			return f.run(ctx, c)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.from, "from", "", "who sends: namespace/pod, namespace/deployment/name or an address")
	fs.StringVar(&f.to, "to", "", "who receives, in the same form")
	fs.StringVar(&f.port, "port", "", "the destination's port, such as 5432/TCP or 53/UDP, or ICMP")
	fs.StringSliceVarP(&f.files, "filename", "f", nil, "a `PATH` of manifests: a file, a folder, or - for standard input; may be repeated")
	fs.StringVarP(&f.format, "output", "o", "human", "human or json")
	f.addTo(fs)
	for _, required := range []string{"from", "to", "port"} {
		if err := c.MarkFlagRequired(required); err != nil {
			panic(err) // a flag that is not there: a mistake in the program itself
		}
	}
	return c
}

func (f *explainFlags) run(ctx context.Context, c *cobra.Command) error {
	if err := knownFormat(f.format, "human", "json"); err != nil {
		return err
	}
	protocol, port, err := explain.ParsePort(f.port)
	if err != nil {
		return fmt.Errorf("--port: %w", err)
	}
	if len(f.files) == 0 {
		f.cluster = true
	}
	s, err := f.exists(ctx, c.ErrOrStderr())
	if err != nil {
		return err
	}
	if len(f.files) > 0 {
		objects, errs, err := read(c, s.namespace, f.files)
		if err = errors.Join(err, tell(c, errs)); err != nil {
			return err
		}
		s.state = applied(s.state, objects)
	}
	snapshot := explain.WithAddresses(s.state.Snapshot(s.defaults))
	finder := explain.Finder{Snapshot: snapshot, Namespace: s.namespace, PodsOf: s.state.PodsOf}
	q := explain.Question{Protocol: protocol, Port: port}
	if q.From, err = finder.Find(f.from); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	if q.To, err = finder.Find(f.to); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	answers, err := explain.Explain(snapshot, q)
	if err != nil {
		return fmt.Errorf("%s to %s: %w", q.From.Name, q.To.Name, err)
	}
	return f.tell(c.OutOrStdout(), q, answers)
}

// tell writes the answers, and is errViolated where one of them is no.
func (f *explainFlags) tell(out io.Writer, q explain.Question, answers []explain.Answer) error {
	var err error
	if f.format == "json" {
		err = report.WriteJSON(out, explain.DocumentOf(q, answers))
	} else {
		err = explain.Text(out, report.StyleFor(out), q, answers)
	}
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	for _, a := range answers {
		if !a.Allowed() {
			return errViolated
		}
	}
	return nil
}
