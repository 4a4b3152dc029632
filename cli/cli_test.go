package cli_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli"
)

var update = flag.Bool("update", false, "write the golden files anew")

// run is the exit status and what was written of a command line.
func run(t *testing.T, stdin string, args ...string) (status int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status = cli.Run(t.Context(), append([]string{"tierwall"}, args...), cli.Streams{In: strings.NewReader(stdin), Out: &stdout, Err: &stderr})
	return status, stdout.String(), stderr.String()
}

func text(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const shop, bad, guardrails = "testdata/shop", "testdata/bad", "testdata/guardrails.yaml"

func TestGoldenOutput(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		args   []string
	}{
		"check-sound.txt":      {cli.Fine, []string{"check", "--guardrails", guardrails, "-f", shop}},
		"check-bad.txt":        {cli.Violated, []string{"check", "--guardrails", guardrails, "-f", shop, "-f", bad}},
		"check-bad.json":       {cli.Violated, []string{"check", "--guardrails", guardrails, "-f", shop, "-f", bad, "-o", "json"}},
		"check-bad.sarif":      {cli.Violated, []string{"check", "--guardrails", guardrails, "-f", shop, "-f", bad, "-o", "sarif"}},
		"check-bad.xml":        {cli.Violated, []string{"check", "--guardrails", guardrails, "-f", shop, "-f", bad, "-o", "junit"}},
		"check-broken.txt":     {cli.Unusable, []string{"check", "--guardrails", guardrails, "-f", shop, "-f", "testdata/broken"}},
		"check-broken.sarif":   {cli.Unusable, []string{"check", "--guardrails", guardrails, "-f", shop, "-f", "testdata/broken", "-o", "sarif"}},
		"check-broken.xml":     {cli.Unusable, []string{"check", "--guardrails", guardrails, "-f", "testdata/broken", "-o", "junit"}},
		"check-own.txt":        {cli.Violated, []string{"check", "-f", shop, "-f", "testdata/telnet.yaml", "--guardrails", "../docs/guardrails/own/no_telnet.rego"}},
		"diff-shop.txt":        {cli.Fine, []string{"diff", "-f", shop}},
		"diff-shop.json":       {cli.Fine, []string{"diff", "-f", shop, "-o", "json"}},
		"diff-telnet.txt":      {cli.Fine, []string{"diff", "--from", shop, "--to", "testdata/shop-with-telnet"}},
		"diff-sides.txt":       {cli.Fine, []string{"diff", "-f", shop, "--sides"}},
		"diff-allow.txt":       {cli.Fine, []string{"diff", "-f", shop, "--default-action", "Allow"}},
		"diff-nothing.txt":     {cli.Fine, []string{"diff", "--from", shop, "--to", shop}},
		"explain-allowed.txt":  {cli.Fine, []string{"explain", "-f", shop, "--from", "prod/deploy/api", "--to", "prod/sts/db", "--port", "5432"}},
		"explain-denied.txt":   {cli.Violated, []string{"explain", "-f", shop, "--from", "prod/web", "--to", "prod/db", "--port", "5432/TCP"}},
		"explain-denied.json":  {cli.Violated, []string{"explain", "-f", shop, "--from", "prod/web", "--to", "prod/db", "--port", "5432/TCP", "-o", "json"}},
		"explain-outside.txt":  {cli.Violated, []string{"explain", "-f", shop, "--from", "198.51.100.1", "--to", "prod/web", "--port", "8080"}},
		"explain-pod-cidr.txt": {cli.Violated, []string{"explain", "-f", shop, "--pod-cidr", "10.9.0.0/16", "--from", "10.9.200.1", "--to", "prod/web", "--port", "8080"}},
	} {
		t.Run(name, func(t *testing.T) {
			status, out, errs := run(t, "", c.args...)
			if status != c.status {
				t.Errorf("exit status %d, want %d; %s", status, c.status, errs)
			}
			file := filepath.Join("testdata/golden", name)
			if *update {
				if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want := text(t, file); out != want {
				t.Errorf("got\n%s\nwant\n%s", out, want)
			}
		})
	}
}

func TestTheExitStatusTellsViolationsFromMistakes(t *testing.T) {
	np := text(t, bad+"/open.yaml")
	for name, c := range map[string]struct {
		stdin  string
		args   []string
		status int
		says   string // in what is written to either
	}{
		"help":                     {"", []string{"--help"}, cli.Fine, "Judge, compare and explain"},
		"version":                  {"", []string{"version"}, cli.Fine, "tierwall "},
		"completion":               {"", []string{"completion", "zsh"}, cli.Fine, "#compdef tierwall"},
		"no such command":          {"", []string{"chekc"}, cli.Unusable, "chekc"},
		"no such flag":             {"", []string{"check", "--file", "x"}, cli.Unusable, "--file"},
		"no manifests":             {"", []string{"check"}, cli.Unusable, "no manifests"},
		"an argument too many":     {"", []string{"check", shop}, cli.Unusable, `"tierwall check -f ` + shop + `"`},
		"no such file":             {"", []string{"check", "-f", "testdata/nowhere"}, cli.Unusable, "testdata/nowhere: cannot be read"},
		"no such format":           {"", []string{"check", "-f", shop, "-o", "yaml"}, cli.Unusable, "want one of human, json, sarif, junit"},
		"no such default action":   {"", []string{"check", "-f", shop, "--default-action", "Maybe"}, cli.Unusable, "--default-action"},
		"standard input":           {np, []string{"check", "-f", shop, "-f", "-"}, cli.Violated, "tier-order"},
		"nothing on it":            {"", []string{"check", "-f", "-"}, cli.Unusable, "there is no object in it"},
		"a guardrail of its own":   {"", []string{"check", "-f", shop, "--guardrails", "../docs/guardrails/own"}, cli.Fine, "1 guardrail"},
		"no guardrail":             {"", []string{"check", "-f", shop, "--guardrails", shop}, cli.Unusable, "there is no guardrail in it"},
		"a kubeconfig that is not": {"", []string{"check", "-f", shop, "--kubeconfig", "testdata/nowhere"}, cli.Unusable, "find the cluster"},
		"half of a comparison":     {"", []string{"diff", "--from", shop}, cli.Unusable, "from to"},
		"nothing to compare":       {"", []string{"diff"}, cli.Unusable, "at least one of the flags"},
		"no question":              {"", []string{"explain", "-f", shop}, cli.Unusable, "required flag"},
		"a port that is none":      {"", []string{"explain", "-f", shop, "--from", "a", "--to", "b", "--port", "0"}, cli.Unusable, "--port"},
		"a pod that is not there":  {"", []string{"explain", "-f", shop, "--from", "prod/wbe", "--to", "prod/db", "--port", "1"}, cli.Unusable, "--from: there is no prod/wbe; there are prod/deployment/api"},
		"a network that is none":   {"", []string{"diff", "-f", shop, "--pod-cidr", "10.0.0.0"}, cli.Unusable, "--pod-cidr"},
		"tests":                    {"", []string{"test", "--threshold", "100", "../docs/guardrails/own"}, cli.Fine, "3 tests passed, 100.0 % covered"},
		"tests of the library":     {"", []string{"test", "--threshold", "100", "../rego/library"}, cli.Fine, "100.0 % covered"},
		"no tests":                 {"", []string{"test", "../docs/guardrails/own/no_telnet.rego"}, cli.Unusable, "there is no test in it"},
		"no Rego":                  {"", []string{"test", shop}, cli.Unusable, "there is no .rego file in it"},
		"a threshold that is none": {"", []string{"test", "--threshold", "101", "../docs/guardrails/own"}, cli.Unusable, "want 0 to 100"},
	} {
		status, out, errs := run(t, c.stdin, c.args...)
		if status != c.status || !strings.Contains(out+errs, c.says) {
			t.Errorf("%s: exit status %d, want %d and %q\n%s%s", name, status, c.status, c.says, out, errs)
		}
	}
}

// The manual speaks of flags that there are.
func TestTheManualsFlags(t *testing.T) {
	help := ""
	for _, command := range []string{"check", "diff", "explain", "test"} {
		_, out, _ := run(t, "", command, "--help")
		help += out
	}
	flags := regexp.MustCompile("[ `]--[a-z-]+").FindAllString(text(t, "../docs/cli.md"), -1)
	for _, f := range flags {
		if !strings.Contains(help, f[1:]+" ") {
			t.Errorf("there is no flag %s", f[1:])
		}
	}
	if len(flags) < 15 {
		t.Errorf("the manual speaks of %d flags", len(flags))
	}
}

// Named so, kubectl runs it for "kubectl tierwall".
func TestAsAPluginOfKubectl(t *testing.T) {
	var out bytes.Buffer
	status := cli.Run(t.Context(), []string{"/usr/local/bin/kubectl-tierwall", "check", "--help"}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &out})
	if status != cli.Fine || !strings.Contains(out.String(), "kubectl tierwall check -f PATH...") {
		t.Errorf("exit status %d\n%s", status, out.String())
	}
}

// What SARIF 2.1.0 requires (OASIS standard, sections 3.13, 3.14, 3.18 to 3.20, 3.27 to 3.30).
func TestSARIF(t *testing.T) {
	for _, file := range []string{"check-bad.sarif", "check-broken.sarif"} {
		var log struct {
			Version string
			Schema  string `json:"$schema"`
			Runs    []struct {
				Tool struct {
					Driver struct {
						Name, InformationURI string
						Rules                []struct{ ID string }
					}
				}
				Invocations []struct {
					ExecutionSuccessful *bool
					Notifications       []struct{ Message struct{ Text string } } `json:"toolExecutionNotifications"`
				}
				Results []struct {
					RuleID    string
					RuleIndex *int
					Level     string
					Message   struct{ Text string }
					Locations []struct {
						PhysicalLocation struct {
							ArtifactLocation struct{ URI string }
							Region           struct{ StartLine int }
						}
					}
				}
			}
		}
		if err := json.Unmarshal([]byte(text(t, "testdata/golden/"+file)), &log); err != nil {
			t.Fatal(err)
		}
		if log.Version != "2.1.0" || log.Schema == "" || len(log.Runs) != 1 || log.Runs[0].Results == nil || log.Runs[0].Tool.Driver.Name != "tierwall" {
			t.Fatalf("%s: %+v", file, log)
		}
		run := log.Runs[0]
		if broken := len(run.Invocations[0].Notifications) > 0; run.Invocations[0].ExecutionSuccessful == nil || *run.Invocations[0].ExecutionSuccessful == broken {
			t.Errorf("%s: %+v", file, run.Invocations)
		}
		for _, r := range run.Results {
			if r.RuleIndex == nil || *r.RuleIndex < 0 || run.Tool.Driver.Rules[*r.RuleIndex].ID != r.RuleID {
				t.Errorf("%s: the rule of %+v is another", file, r)
			}
			if r.Message.Text == "" || !slices.Contains([]string{"error", "warning"}, r.Level) || len(r.Locations) != 1 {
				t.Errorf("%s: %+v", file, r)
			}
			l := r.Locations[0].PhysicalLocation
			if !strings.HasPrefix(l.ArtifactLocation.URI, "testdata/") || l.Region.StartLine < 1 {
				t.Errorf("%s: %+v", file, l)
			}
		}
	}
}

func TestJUnit(t *testing.T) {
	for file, want := range map[string][2]int{"check-bad.xml": {3, 0}, "check-broken.xml": {0, 4}} {
		var all struct {
			Failures int `xml:"failures,attr"`
			Errors   int `xml:"errors,attr"`
			Suites   []struct {
				Tests int `xml:"tests,attr"`
				Cases []struct {
					Name     string     `xml:"name,attr"`
					Failures []struct{} `xml:"failure"`
					Errors   []struct{} `xml:"error"`
				} `xml:"testcase"`
			} `xml:"testsuite"`
		}
		if err := xml.Unmarshal([]byte(text(t, "testdata/golden/"+file)), &all); err != nil {
			t.Fatal(err)
		}
		failures, errs := 0, 0
		for _, s := range all.Suites {
			if s.Tests != len(s.Cases) {
				t.Errorf("%s: %d tests, %d cases", file, s.Tests, len(s.Cases))
			}
			for _, c := range s.Cases {
				failures += min(len(c.Failures), 1)
				errs += min(len(c.Errors), 1)
			}
		}
		if got := [2]int{failures, errs}; got != want || got != [2]int{all.Failures, all.Errors} {
			t.Errorf("%s: failures and errors %v, said to be %d and %d, want %v", file, got, all.Failures, all.Errors, want)
		}
	}
}

// A result that goes to a file or a pipe has no colours.
func TestNoColoursButOnATerminal(t *testing.T) {
	for _, file := range []string{"check-bad.txt", "diff-shop.txt", "explain-denied.txt"} {
		if strings.Contains(text(t, "testdata/golden/"+file), "\x1b") {
			t.Errorf("%s has colours", file)
		}
	}
}

// Neither does it need another system than the one it runs on.
func TestItBuildsForOtherSystems(t *testing.T) {
	const errorsOnly = "{{if .Error}}{{.ImportPath}}: {{.Error}}{{end}}{{range .DepsErrors}}{{.}}{{end}}"
	for _, system := range []string{"linux/arm64", "darwin/arm64", "windows/amd64"} {
		goos, goarch, _ := strings.Cut(system, "/")
		out := goList(t, []string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0"}, "-f", errorsOnly)
		if strings.TrimSpace(out) != "" {
			t.Errorf("%s: %s", system, out)
		}
	}
	for _, dep := range strings.Fields(goList(t, nil)) {
		if strings.HasPrefix(dep, "github.com/tierwall/tierwall/enforcer") || strings.HasPrefix(dep, "github.com/tierwall/tierwall/webhook") {
			t.Errorf("the command line needs %s", dep)
		}
	}
}

// goList lists the dependencies of the command line. Standard error is progress, such as "go: downloading …",
// unless the command fails.
func goList(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"list", "-deps"}, args...), "../cmd/tierwall")...)
	cmd.Env = append(append(os.Environ(), "GOFLAGS="), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list with %v: %v\n%s", env, err, stderr.String())
	}
	return string(out)
}
