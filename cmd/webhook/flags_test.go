package main

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

func TestFlags(t *testing.T) {
	s, err := parse([]string{"--namespace=tierwall-system", "--default-action=Allow", "--exempt-namespaces=kube-system,tierwall-system",
		"--namespace-default-action=a=Deny", "--namespace-default-action=b=Allow", "--log-level=debug"})
	if err != nil {
		t.Fatal(err)
	}
	d := s.options.Defaults
	if d.Action != policy.Allow || !slices.Equal(d.Exempt, []string{"kube-system", "tierwall-system"}) {
		t.Errorf("defaults %+v", d)
	}
	for namespace, want := range map[string]policy.Verdict{"a": policy.Deny, "b": policy.Allow, "kube-system": policy.Allow, "c": policy.Allow} {
		if got := d.For(namespace); got != want {
			t.Errorf("default action of %s is %v, want %v", namespace, got, want)
		}
	}
	if s.level != slog.LevelDebug || !s.options.AwaitEndpoints || s.options.Port != 9443 {
		t.Errorf("settings %+v", s)
	}
}

func TestFlagsDenyByDefault(t *testing.T) {
	s, err := parse([]string{"--namespace=x"})
	if err != nil || s.options.Defaults.For("anything") != policy.Deny {
		t.Errorf("default action %v, error %v", s.options.Defaults.For("anything"), err)
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	for _, args := range [][]string{
		{}, {"--namespace=x", "extra"}, {"--namespace=x", "--default-action=Maybe"}, {"--namespace=x", "--namespace-default-action=a"},
		{"--namespace=x", "--namespace-default-action==Deny"}, {"--namespace=x", "--log-level=loud"}, {"--no-such-flag"},
	} {
		if _, err := parse(args); err == nil || exitStatus(err) != 2 {
			t.Errorf("%q: error %v, want one with exit status 2", args, err)
		}
	}
	if _, err := parse([]string{"--help"}); exitStatus(err) != 0 {
		t.Errorf("--help: exit status %d", exitStatus(err))
	}
}
