package shop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tierwall/tierwall/test/cluster"
)

// Shell runs kubectl and helm against the lab.
type Shell struct {
	programs map[string]string
	env      []string
}

// NewShell finds the lab's own kubectl and helm.
func NewShell(c *cluster.Cluster) (*Shell, error) {
	s := &Shell{programs: map[string]string{}, env: append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())}
	for _, name := range []string{"kubectl", "helm"} {
		file, err := cluster.Program(name)
		if err != nil {
			return nil, err
		}
		s.programs[name] = file
	}
	return s, nil
}

// Path are the folders of the programs, for a person's PATH.
func (s *Shell) Path() string {
	return filepath.Dir(s.programs["kubectl"]) + ":" + filepath.Dir(s.programs["helm"])
}

// Command prepares kubectl or helm.
func (s *Shell) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.programs[name], args...)
	cmd.Env = s.env
	return cmd
}

// Run runs kubectl or helm and returns what it printed on standard output. The
// error contains all that it printed.
func (s *Shell) Run(ctx context.Context, args ...string) (string, error) {
	cmd := s.Command(ctx, args[0], args[1:]...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, out, said.String())
	}
	return string(out), nil
}
