package main

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// parse is what the command line says, or what is wrong with it.
func parse(t *testing.T, args ...string) (*options, error) {
	t.Helper()
	var got *options
	cmd := newCommand(func(o *options, _ context.Context) error {
		got = o
		return nil
	})
	cmd.SetArgs(args)
	cmd.SetOut(io.Discard)
	err := cmd.ExecuteContext(t.Context())
	return got, err
}

func TestFlags(t *testing.T) {
	o, err := parse(t, "--namespace=tierwall-system", "--default-action=Allow", "--exempt-namespaces=kube-system, tierwall-system",
		"--namespace-default-action=a=Deny", "--namespace-default-action=b=Allow", "--log-level=debug")
	if err != nil {
		t.Fatal(err)
	}
	d := o.server.Defaults
	if d.Action != policy.Allow || !slices.Equal(d.Exempt, []string{"kube-system", "tierwall-system"}) {
		t.Errorf("defaults %+v", d)
	}
	for namespace, want := range map[string]policy.Verdict{"a": policy.Deny, "b": policy.Allow, "kube-system": policy.Allow, "c": policy.Allow} {
		if got := d.For(namespace); got != want {
			t.Errorf("default action of %s is %v, want %v", namespace, got, want)
		}
	}
	if !o.server.Log.Enabled(t.Context(), slog.LevelDebug) || !o.server.AwaitEndpoints || o.server.Port != 9443 {
		t.Errorf("options %+v", o)
	}
}

func TestFlagsDenyByDefault(t *testing.T) {
	o, err := parse(t, "--namespace=x")
	if err != nil {
		t.Fatal(err)
	}
	if d := o.server.Defaults; d.For("anything") != policy.Deny || d.For("kube-system") != policy.Allow {
		t.Errorf("defaults %+v", d)
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "--namespace"},
		{[]string{"--namespace=x", "extra"}, "extra"},
		{[]string{"--namespace=x", "--default-action=Maybe"}, "--default-action"},
		{[]string{"--namespace=x", "--namespace-default-action=a"}, "namespace-default-action"},
		{[]string{"--namespace=x", "--namespace-default-action=a=Maybe"}, "--namespace-default-action a"},
		{[]string{"--namespace=x", "--log-level=loud"}, "--log-level"},
		{[]string{"--namespace=x", "--bundle-interval=1ms"}, "--bundle-interval"},
		{[]string{"--no-such-flag"}, "no-such-flag"},
	} {
		if o, err := parse(t, c.args...); err == nil || o != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one that names %s", c.args, err, c.want)
		}
	}
	if o, err := parse(t, "--help"); err != nil || o != nil {
		t.Errorf("--help: error %v, runs: %v", err, o != nil)
	}
}
