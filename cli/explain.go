package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/tierwall/tierwall/cli/explain"
	"github.com/tierwall/tierwall/cli/report"
	"github.com/tierwall/tierwall/internal/unenforced"
)

// explainFlags are those of explain.
type explainFlags struct {
	source
	input
	from, to, port string
	format         string
	nodeCIDRs      []string
	serviceCIDRs   []string
}

func newExplain() *cobra.Command {
	f := &explainFlags{}
	c := &cobra.Command{
		Use:   "explain --from POD --to POD --port PORT [-f PATH...]",
		Short: "Say whether one pod may reach another, by which rule, and what would have to be different",
		Long: `Say whether one pod may reach another, by which rule, and what would have to be different.

A side is namespace/pod, namespace/deployment/name (or sts, ds, job, cronjob),
namespace/svc/name, or an address. All pods of a side are asked, and a Service
stands for the pods behind it. Without a folder it is the live cluster that is
asked about. Where facts are missing that decide, the answer is unknown, and says
what would decide it.

Exit status: 0 allowed; 1 denied, for all pods or for some of them; 2 the question
or the input is wrong; 3 unknown.`,
		Example: `  tierwall explain --cluster --from shop/web-0 --to shop/db-0 --port 5432/TCP
  tierwall explain -f manifests/ --from shop/deploy/web --to 192.0.2.7 --port 443
  tierwall explain -f manifests/ --pod-cidr 10.244.0.0/16 --from shop/web --to shop/svc/db --port postgres`,
		Args: byFlag("--from"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), f.timeout)
			defer cancel()
			return f.run(ctx, c)
		},
	}
	fs := c.Flags()
	fs.StringVar(&f.from, "from", "", "who sends: namespace/pod, namespace/deployment/name, namespace/svc/name or an address")
	fs.StringVar(&f.to, "to", "", "who receives, in the same form")
	fs.StringVar(&f.port, "port", "", "the destination's port: a number such as 5432/TCP or 53/UDP, a name such as postgres, or ICMP")
	f.input.addTo(fs)
	fs.StringVarP(&f.format, "output", "o", "human", "human or json")
	fs.StringSliceVar(&f.nodeCIDRs, "node-cidr", nil, "the `NETWORK` that nodes have addresses of, where no Node says so; may be repeated")
	fs.StringSliceVar(&f.serviceCIDRs, "service-cidr", nil, "the `NETWORK` that Services have addresses of; may be repeated")
	f.source.addTo(fs)
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
	port, err := explain.ParsePort(f.port)
	if err != nil {
		return fmt.Errorf("--port: %w", err)
	}
	if f.isEmpty() {
		f.cluster = true
	}
	s, err := f.exists(ctx, c.ErrOrStderr())
	if err != nil {
		return err
	}
	others := s.unenforced
	if !f.isEmpty() {
		reading, err := f.read(c, s.namespace)
		others = addCounts(reading.Unenforced(), others)
		if err = errors.Join(err, tell(c.ErrOrStderr(), reading, others)); err != nil {
			return err
		}
		s.state = applied(s.state, reading.Objects)
	}
	facts, err := f.facts(s)
	if err != nil {
		return err
	}
	finder := explain.Finder{Facts: facts, Namespace: s.namespace}
	q := explain.Question{Port: port}
	if q.From, err = finder.Find(f.from); err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	if q.To, err = finder.Find(f.to); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	result, err := explain.Explain(facts, q)
	if err != nil {
		return fmt.Errorf("%s to %s: %w", q.From.Name, q.To.Name, err)
	}
	return f.tell(c.OutOrStdout(), q, result, others)
}

// facts are what is known of the cluster that is asked about.
func (f *explainFlags) facts(s existing) (*explain.Facts, error) {
	var networks explain.Networks
	for _, n := range []struct {
		flag  string
		texts []string
		into  *[]netip.Prefix
	}{{"--pod-cidr", f.podCIDRs, &networks.Pods}, {"--node-cidr", f.nodeCIDRs, &networks.Nodes}, {"--service-cidr", f.serviceCIDRs, &networks.Services}} {
		for _, text := range n.texts {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", n.flag, err)
			}
			*n.into = append(*n.into, p.Masked())
		}
	}
	var asked []netip.Addr
	for _, text := range []string{f.from, f.to} {
		if a, err := netip.ParseAddr(text); err == nil {
			asked = append(asked, a)
		}
	}
	return explain.NewFacts(s.state, s.defaults, networks, s.live, asked...), nil
}

// answerDocument is the JSON form of the answers.
type answerDocument struct {
	explain.Document
	// Unenforced are policies that other engines enforce, and the answers do not know.
	Unenforced []unenforced.Count `json:"unenforced,omitempty"`
}

// tell writes the answers, and is an error where not all of them are yes.
func (f *explainFlags) tell(out io.Writer, q explain.Question, r explain.Result, others []unenforced.Count) error {
	var err error
	if f.format == "json" {
		err = report.WriteJSON(out, answerDocument{explain.DocumentOf(q, r), others})
	} else {
		err = explain.Text(out, report.StyleFor(out), q, r)
	}
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	switch r.Verdict {
	case explain.Unsure:
		return errUnknown
	case "denied", explain.Partly:
		return errViolated
	}
	return nil
}
