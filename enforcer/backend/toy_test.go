package backend

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/enforcer/revoke"
	"github.com/tierwall/tierwall/enforcer/spoof"
	"github.com/tierwall/tierwall/policy"
)

// toyDriver is a backend whose kernel is a table in memory. With the list alone it goes through all that an agent does.
type toyDriver struct {
	name      string
	preferred bool
	broken    error
	kernel    *toyKernel
}

// toyKernel is what is in force, and outlives the agents.
type toyKernel struct {
	program *policy.Program
	guarded bool
}

func (d toyDriver) Names() []string { return []string{d.name, d.name + "-variant"} }

func (d toyDriver) IsPreferred(context.Context) bool { return d.preferred }

func (d toyDriver) Open(context.Context, Options) (Instance, error) {
	if d.broken != nil {
		return Instance{}, d.broken
	}
	return Instance{Backend: toyBackend{d.kernel}, Sources: toyGuard{name: d.name, kernel: d.kernel},
		OpenConnections: func() (Connections, error) { return toyConnections{}, nil }}, nil
}

func (d toyDriver) OpenPredecessor(context.Context, *slog.Logger) (enforcer.Predecessor, error) {
	if d.broken != nil {
		return nil, d.broken
	}
	return toyBackend{d.kernel}, nil
}

func (d toyDriver) SourceGuards() []spoof.Kernel {
	return []spoof.Kernel{toyGuard{name: d.name, kernel: d.kernel}}
}

type toyBackend struct{ kernel *toyKernel }

func (b toyBackend) Programmed() bool { return b.kernel.program != nil }

func (b toyBackend) Apply(_ context.Context, p *policy.Program) error {
	b.kernel.program = p
	return nil
}

func (b toyBackend) Repair(context.Context) (bool, error) { return false, nil }

func (b toyBackend) Cleanup(context.Context) error {
	b.kernel.program = nil
	return nil
}

type toyGuard struct {
	name      string
	anySource bool
	kernel    *toyKernel
}

func (g toyGuard) Name() string { return g.name }

func (g toyGuard) WithAnySource() spoof.Kernel {
	g.anySource = true
	return g
}

func (g toyGuard) Write(context.Context, spoof.Interfaces) error {
	g.kernel.guarded = true
	return nil
}

func (g toyGuard) Read(context.Context) (string, error) { return "", nil }

func (g toyGuard) Whole(string, spoof.Interfaces) bool { return g.kernel.guarded }

func (g toyGuard) Cleanup(context.Context) error {
	g.kernel.guarded = false
	return nil
}

type toyConnections struct{ revoke.Table }

func (toyConnections) Close() {}

func openToy(t *testing.T, l List, name string) Choice {
	t.Helper()
	c, err := l.Open(t.Context(), Options{Name: name, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A third backend takes a node over from its siblings, and leaves it clean.
func TestThirdBackendReplacesItsPredecessorsAndIsRemoved(t *testing.T) {
	first, second := toyDriver{name: "first", kernel: &toyKernel{}}, toyDriver{name: "second", kernel: &toyKernel{}}
	third := toyDriver{name: "third", preferred: true, kernel: &toyKernel{}}
	list := List{first, second, third}
	program := &policy.Program{}
	old := openToy(t, list, "second")
	if old.Predecessor.Programmed() {
		t.Error("a clean node has a predecessor's program")
	}
	if err := errors.Join(old.Apply(t.Context(), program), old.Sources.Write(t.Context(), spoof.Interfaces{})); err != nil {
		t.Fatal(err)
	}
	c := openToy(t, list, Auto)
	if c.Programmed() || !c.Predecessor.Programmed() || second.kernel.program != program {
		t.Fatal("the predecessor's program was not kept in force while the new backend has none")
	}
	if err := c.Apply(t.Context(), program); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Predecessor.Cleanup(t.Context()), spoof.Cleanup(t.Context(), c.OtherSources)); err != nil {
		t.Fatal(err)
	}
	if second.kernel.program != nil || second.kernel.guarded || third.kernel.program != program {
		t.Errorf("after the takeover: predecessor %+v, successor %+v", second.kernel, third.kernel)
	}
	if table, err := c.OpenConnections(); err != nil {
		t.Error(err)
	} else {
		table.Close()
	}
	if err := c.Sources.Write(t.Context(), spoof.Interfaces{}); err != nil {
		t.Fatal(err)
	}
	if err := list.Cleanup(t.Context(), slog.New(slog.DiscardHandler)); err != nil || third.kernel.program != nil || third.kernel.guarded {
		t.Errorf("after the cleanup: %+v, %v", third.kernel, err)
	}
}

func TestAutoOpensTheFirstPreferredDriver(t *testing.T) {
	one, two := toyDriver{name: "one", preferred: true, kernel: &toyKernel{}}, toyDriver{name: "two", preferred: true, kernel: &toyKernel{}}
	none := toyDriver{name: "none", kernel: &toyKernel{}}
	for name, c := range map[string]struct {
		list List
		want string
	}{
		"both are preferred":  {List{one, two}, "one"},
		"in the other order":  {List{two, one}, "two"},
		"one is not":          {List{none, two}, "two"},
		"by name, not by use": {List{none}, ""},
	} {
		got, err := c.list.Open(t.Context(), Options{Name: Auto, Log: slog.New(slog.DiscardHandler)})
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: opened %s", name, got.Sources.Name())
			}
		} else if err != nil || got.Sources.Name() != c.want {
			t.Errorf("%s: %v, %v", name, got.Sources, err)
		}
	}
	if got := openToy(t, List{one, none}, "none-variant").Sources.Name(); got != "none" {
		t.Errorf("a variant's name opened %s", got)
	}
}

func TestBackendThatCannotBeUsedHasLeftNothing(t *testing.T) {
	broken, works := toyDriver{name: "broken", broken: errors.New("no tools"), kernel: &toyKernel{}}, toyDriver{name: "works", kernel: &toyKernel{}}
	if c := openToy(t, List{broken, works}, "works"); c.Predecessor != nil {
		t.Errorf("predecessor %v", c.Predecessor)
	}
	works.kernel.program = &policy.Program{}
	if err := (List{broken, works}).Cleanup(t.Context(), slog.New(slog.DiscardHandler)); err != nil || works.kernel.program != nil {
		t.Errorf("%v, and %v is in force", err, works.kernel.program)
	}
	if err := (List{broken}).Cleanup(t.Context(), slog.New(slog.DiscardHandler)); !errors.Is(err, broken.broken) {
		t.Errorf("a node where no backend can be used was cleaned: %v", err)
	}
	if _, err := (List{broken, works}).Open(t.Context(), Options{Name: "broken", Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, broken.broken) {
		t.Errorf("opened a broken backend: %v", err)
	}
	if _, err := (List{works}).Open(t.Context(), Options{Name: "other", Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "auto, works, works-variant") {
		t.Errorf("opened a backend of no driver: %v", err)
	}
}

// unguarded is a driver that forgets the guard against forged sources.
type unguarded struct{ toyDriver }

func (u unguarded) Open(ctx context.Context, o Options) (Instance, error) {
	i, err := u.toyDriver.Open(ctx, o)
	i.Sources = nil
	return i, err
}

func TestDriverWithoutSourceGuardIsRefused(t *testing.T) {
	l := List{unguarded{toyDriver{name: "unguarded", kernel: &toyKernel{}}}}
	if _, err := l.Open(t.Context(), Options{Name: "unguarded", Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("opened")
	}
}

// The names are the values of --backend and of the chart; those of guards tell what to remove after a change of backend.
func TestNamesOfDriversAndGuards(t *testing.T) {
	if got, want := Drivers.Names(), []string{"auto", "nftables", "iptables", "iptables-nft", "iptables-legacy"}; !slices.Equal(got, want) {
		t.Errorf("drivers %v, want %v", got, want)
	}
	var guards []string
	for _, k := range Drivers.SourceGuards() {
		if without := k.WithAnySource(); without.Name() != k.Name() || without == k {
			t.Errorf("%s with any source is %+v", k.Name(), without)
		}
		guards = append(guards, k.Name())
	}
	if want := []string{"nftables", "iptables-nft", "iptables-legacy"}; !slices.Equal(guards, want) {
		t.Errorf("guards %v, want %v", guards, want)
	}
}
