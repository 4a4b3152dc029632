package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	report "sigs.k8s.io/network-policy-api/conformance/apis/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/images"
	"github.com/tierwall/tierwall/test/cluster"
)

// cnp is the conformance suite of ClusterNetworkPolicy. It has no tests of
// domainNames.
type cnp struct{}

const (
	// cnpAgnhost is the image that the suite's pods use.
	cnpAgnhost = "registry.k8s.io/e2e-test-images/agnhost:2.45"
	cnpReport  = "report.yaml"
	repository = "https://github.com/tierwall/tierwall"
)

func (cnp) command(ctx context.Context, lab *cluster.Cluster, dir string) (*exec.Cmd, error) {
	program, err := cluster.Program("cnp-conformance.test")
	if err != nil {
		return nil, err
	}
	version, err := images.ChartVersion(".")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "-test.v=test2json", "-test.run=^TestConformanceProfiles$", "-test.timeout=1h",
		"-conformance-profiles=ClusterNetworkPolicy",
		"-supported-features=ClusterNetworkPolicyNamedPorts,ClusterNetworkPolicyEgressNodePeers",
		"-report-output="+filepath.Join(dir, cnpReport),
		"-organization=tierwall", "-project=tierwall", "-url="+repository, "-version=v"+version,
		"-contact="+repository+"/issues", "-additional-info="+repository+"/blob/main/docs/design/lab.md")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+lab.Kubeconfig())
	return cmd, nil
}

// goTest is the line of go test about a test that is done. Those of the suite
// are subtests of one test, and have subtests themselves.
var goTest = regexp.MustCompile(`^\x16? *--- (PASS|FAIL|SKIP): TestConformanceProfiles/(\S+) \(([0-9.]+)s\)`)

// follow reads the output of go test, and then the suite's own report.
func (cnp) follow(output io.Reader, w io.Writer, dir string) result {
	var r result
	outcomes := map[string]string{"PASS": passed, "FAIL": failed, "SKIP": skipped}
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadString('\n')
		if m := goTest.FindStringSubmatch(line); m != nil {
			test, part, _ := strings.Cut(m[2], "/")
			if part == "" {
				r.count(w, test, outcomes[m[1]], m[3])
			} else if m[1] == "FAIL" {
				fmt.Fprintf(w, "  %s: %s\n", test, strings.ReplaceAll(part, "_", " "))
			}
		}
		if err != nil {
			break
		}
	}
	r.planned = r.passed + r.failed + r.skipped
	if err := r.readReport(filepath.Join(dir, cnpReport)); err != nil {
		r.broken = true
		r.notes = append(r.notes, err.Error())
	}
	return r
}

// readReport notes what the suite's report says, which must be what was counted.
func (r *result) readReport(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the suite's report: %w", err)
	}
	var all report.ConformanceReport
	if err := yaml.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("read the suite's report %s: %w", file, err)
	}
	total := 0
	for _, profile := range all.ProfileReports {
		total += r.note(profile.Name+" standard", profile.Standard)
		if profile.Experimental != nil {
			total += r.note(profile.Name+" experimental", profile.Experimental.Status)
		}
	}
	if total != r.planned {
		return fmt.Errorf("the suite's report has %d tests, its output %d", total, r.planned)
	}
	return nil
}

// note notes a part of the report, and says how many tests it has.
func (r *result) note(name string, s report.Status) int {
	r.notes = append(r.notes, fmt.Sprintf("%s: %s, %d passed, %d failed, %d skipped", name, s.Result, s.Passed, s.Failed, s.Skipped))
	return int(s.Passed + s.Failed + s.Skipped)
}
