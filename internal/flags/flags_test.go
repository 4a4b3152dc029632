package flags

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/tierwall/tierwall/policy"
)

func parse(args ...string) (policy.Defaults, error) {
	var d Defaults
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	d.AddTo(fs)
	if err := fs.Parse(args); err != nil {
		return policy.Defaults{}, err
	}
	return d.Parse()
}

func TestDefaultActions(t *testing.T) {
	d, err := parse("--default-action=Deny", "--exempt-namespaces=kube-system,infra",
		"--namespace-default-action=legacy=Allow", "--namespace-default-action=infra=Deny")
	if err != nil {
		t.Fatal(err)
	}
	for ns, want := range map[string]policy.Verdict{
		"kube-system": policy.Allow, "infra": policy.Allow, "legacy": policy.Allow, "prod": policy.Deny, "": policy.Deny,
	} {
		if got := d.For(ns); got != want {
			t.Errorf("default action of %q: %s, want %s", ns, got, want)
		}
	}
}

func TestBadDefaultActionsNameTheFlag(t *testing.T) {
	for _, args := range [][]string{{"--default-action=allow"}, {"--default-action="}, {"--namespace-default-action=prod=Maybe"}} {
		_, err := parse(args...)
		flag, _, _ := strings.Cut(args[0], "=")
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: error %v, want one that names the flag", args[0], err)
		}
	}
}

func TestBadLogLevel(t *testing.T) {
	if _, err := Logger("loud"); err == nil || !strings.Contains(err.Error(), "--log-level") {
		t.Errorf("error %v, want one that names --log-level", err)
	}
}
