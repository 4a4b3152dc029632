package main

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/test/cluster"
)

// netpol is the Kubernetes e2e tests, of which focus and skip choose some.
type netpol struct {
	focus, skip string
	procs       int
}

func (n netpol) command(ctx context.Context, lab *cluster.Cluster, dir string) (*exec.Cmd, error) {
	programs := map[string]string{"ginkgo": "", "e2e.test": "", "kubectl": ""}
	for name := range programs {
		path, err := cluster.Program(name)
		if err != nil {
			return nil, err
		}
		programs[name] = path
	}
	return exec.CommandContext(ctx, programs["ginkgo"], "run", "-v", "--no-color", "--timeout=2h",
		"--procs="+strconv.Itoa(n.procs), "--focus="+n.focus, "--skip="+n.skip,
		"--output-dir="+dir, "--junit-report=junit.xml",
		programs["e2e.test"], "--",
		"--provider=skeleton", "--kubeconfig="+lab.Kubeconfig(), "--kubectl-path="+programs["kubectl"]), nil
}

// Lines of ginkgo's verbose report.
var (
	plan = regexp.MustCompile(`^Will run (\d+) of \d+ specs`)
	name = regexp.MustCompile(`^\[sig-[a-z-]+\] (.*)`)
	done = regexp.MustCompile(`^• (\[[A-Z ]+\] )?\[([0-9.]+) seconds\]`)
	tags = regexp.MustCompile(`( \[[^]]*\])+$`)
)

// follow reads ginkgo's verbose report. The report of a test has its outcome
// before its name if tests run at the same time, and after it if they do not.
func (n netpol) follow(output io.Reader, w io.Writer, _ string) result {
	var r result
	var test string
	var outcome []string
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadString('\n')
		line = strings.TrimRight(line, "\n")
		if m := plan.FindStringSubmatch(line); m != nil {
			r.planned, _ = strconv.Atoi(m[1])
		} else if m := name.FindStringSubmatch(line); m != nil && test == "" {
			test = tags.ReplaceAllString(strings.Replace(m[1], "[It] ", "", 1), "")
		} else if m := done.FindStringSubmatch(line); m != nil {
			outcome = m
		} else if strings.HasPrefix(line, "----------") || err != nil {
			if outcome != nil {
				r.count(w, test, ginkgoOutcome(outcome[1]), outcome[2])
			}
			test, outcome = "", nil
		}
		if err != nil {
			return r
		}
	}
}

// ginkgoOutcome is what a mark means, which tests that passed do not have.
func ginkgoOutcome(mark string) string {
	if mark == "" {
		return passed
	}
	return failed
}
