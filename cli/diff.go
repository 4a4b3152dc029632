package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tierwall/tierwall/cli/diff"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/report"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/internal/unenforced"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/effect"
)

// diffFlags are those of diff.
type diffFlags struct {
	source
	input
	from, to string
	all      bool
	sides    bool
	format   string
}

func newDiff() *cobra.Command {
	f := &diffFlags{}
	c := &cobra.Command{
		Use:   "diff {-f PATH... | --from PATH --to PATH}",
		Short: "Show what a change opens and closes",
		Long: `Show what a change opens and closes, as a table.

With -f the change is that manifests are applied to what exists: to the live
cluster with --cluster, else to an empty one. With --from and --to it is that of
one folder to another, what is gone from it included; a folder with a
kustomization is rendered, as -k does.`,
		Example: `  tierwall diff --cluster -f manifests/
  git worktree add /tmp/main main && tierwall diff --from /tmp/main/manifests --to manifests`,
		Args: byFlag("-f"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), f.timeout)
			defer cancel()
			return f.run(ctx, c)
		},
	}
	fs := c.Flags()
	f.input.addTo(fs)
	fs.StringVar(&f.from, "from", "", "the `PATH` of the manifests before the change")
	fs.StringVar(&f.to, "to", "", "the `PATH` of the manifests after it")
	fs.BoolVar(&f.sides, "sides", false, "show what each side lets pass by itself, and not flows")
	fs.BoolVar(&f.all, "all", false, "show, of each side, what the other side blocks too, and cut nothing")
	fs.StringVarP(&f.format, "output", "o", "human", "human or json")
	f.source.addTo(fs)
	c.MarkFlagsRequiredTogether("from", "to")
	c.MarkFlagsMutuallyExclusive("filename", "from")
	c.MarkFlagsMutuallyExclusive("kustomize", "from")
	c.MarkFlagsOneRequired("filename", "kustomize", "from")
	return c
}

func (f *diffFlags) run(ctx context.Context, c *cobra.Command) error {
	if err := knownFormat(f.format, "human", "json"); err != nil {
		return err
	}
	base, err := f.exists(ctx, c.ErrOrStderr())
	if err != nil {
		return err
	}
	before, after, others, err := f.states(c, base)
	if err != nil {
		return err
	}
	was, is := before.Snapshot(base.defaults), after.Snapshot(base.defaults)
	e := effect.Compute(ctx, was, is)
	if f.format == "json" {
		err = report.WriteJSON(c.OutOrStdout(), diff.DocumentOf(e, others))
	} else {
		err = diff.Text(c.OutOrStdout(), report.StyleFor(c.OutOrStdout()), e,
			diff.Options{Sides: f.sides, All: f.all, ClosedBefore: isClosed(before, base.defaults), Families: diff.FamiliesOf(was, is)})
	}
	if err != nil {
		return fmt.Errorf("write the difference: %w", err)
	}
	if !e.Complete {
		return errTold
	}
	return nil
}

// states are what is before and after the change, and what other engines enforce after it.
func (f *diffFlags) states(c *cobra.Command, base existing) (before, after state.State, others []unenforced.Count, err error) {
	before = base.state
	paths, kustomizations := f.files, f.kustomizations
	if f.from != "" {
		reading, err := f.readPaths(c, base.namespace, plainPaths(f.from), renderedPaths(f.from))
		if err := errors.Join(err, tell(c.ErrOrStderr(), reading, nil)); err != nil {
			return before, after, nil, err
		}
		before, paths = applied(base.state, reading.Objects), plainPaths(f.to)
		kustomizations = renderedPaths(f.to)
	}
	reading, err := f.readPaths(c, base.namespace, paths, kustomizations)
	others = addCounts(reading.Unenforced(), base.unenforced)
	if err := errors.Join(err, tell(c.ErrOrStderr(), reading, others)); err != nil {
		return before, after, nil, err
	}
	after = applied(base.state, reading.Objects)
	return before.WithPodsOf(after), after.WithPodsOf(before), others, nil
}

// plainPaths are the path, if it is read as it is.
func plainPaths(path string) []string {
	if manifest.IsKustomizationFolder(path) {
		return nil
	}
	return []string{path}
}

// renderedPaths are the path, if it is the folder of a kustomization.
func renderedPaths(path string) []string {
	if manifest.IsKustomizationFolder(path) {
		return []string{path}
	}
	return nil
}

// isClosed reports whether nothing passes in a state: there is no policy, and the default
// action denies.
func isClosed(s state.State, d policy.Defaults) bool {
	for _, action := range d.Namespaces {
		if action != policy.Deny {
			return false
		}
	}
	return d.Action == policy.Deny && !s.Has("NetworkPolicy", "ClusterNetworkPolicy")
}
