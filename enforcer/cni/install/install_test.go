package install

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tierwall/tierwall/enforcer/cni"
)

const lab = `{"cniVersion": "0.4.0", "name": "lab", "big": 12345678901234567890,
 "plugins": [{"type": "ptp", "ipam": {"type": "host-local"}}, {"type": "portmap", "capabilities": {"portMappings": true}}]}`

// newNode is a node with these configurations.
func newNode(t *testing.T, files map[string]string) Node {
	t.Helper()
	dir := t.TempDir()
	n := Node{BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "conf"), Program: filepath.Join(dir, "program")}
	for _, d := range []string{n.BinDir, n.ConfDir} {
		must(t, os.Mkdir(d, 0o755))
	}
	must(t, os.WriteFile(n.Program, []byte("a program"), 0o700))
	for name, text := range files {
		n.write(t, name, text)
	}
	return n
}

func (n Node) write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(n.ConfDir, name), []byte(text), 0o640))
}

// types are those of the plugins of a configuration.
func (n Node) types(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.ConfDir, name))
	must(t, err)
	var list struct {
		Plugins []struct{ Type string }
	}
	must(t, json.Unmarshal(text, &list))
	var out []string
	for _, p := range list.Plugins {
		out = append(out, p.Type)
	}
	return strings.Join(out, " ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var settings = Settings{Socket: cni.Socket, TimeoutSeconds: 15, ExemptNamespaces: []string{"tierwall-system", "kube-system"}}

func TestPluginComesLastInTheChainAndOthersStay(t *testing.T) {
	n := newNode(t, map[string]string{"10-lab.conflist": lab, "20-other.conflist": lab, "README": "x", "05.conf.bak": "x"})
	changed, err := n.Install(settings)
	must(t, err)
	if got := n.types(t, "10-lab.conflist"); !changed || got != "ptp portmap tierwall-cni" {
		t.Errorf("changed %v, chain %s", changed, got)
	}
	if got := n.types(t, "20-other.conflist"); got != "ptp portmap" {
		t.Errorf("a configuration that is not in use has %s", got)
	}
	text, err := os.ReadFile(filepath.Join(n.ConfDir, "10-lab.conflist"))
	must(t, err)
	for _, want := range []string{"12345678901234567890", `"portMappings": true`, `"timeoutSeconds": 15`, "host-local"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	info, err := os.Stat(filepath.Join(n.ConfDir, "10-lab.conflist"))
	must(t, err)
	program, err := os.Stat(filepath.Join(n.BinDir, cni.Type))
	must(t, err)
	if info.Mode().Perm() != 0o640 || program.Mode().Perm() != 0o755 {
		t.Errorf("modes %v and %v", info.Mode(), program.Mode())
	}
	must(t, n.CheckInstalled())
	if changed, err := n.Install(settings); err != nil || changed {
		t.Errorf("a second time: changed %v, error %v", changed, err)
	}
	n.onlyKnownFiles(t, "05.conf.bak", "10-lab.conflist", "20-other.conflist", "README")
}

// onlyKnownFiles looks for files that were left.
func (n Node) onlyKnownFiles(t *testing.T, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(n.ConfDir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

func TestChangedSettingsReplaceTheEntry(t *testing.T) {
	n := newNode(t, map[string]string{"10-lab.conflist": lab})
	for _, exempt := range [][]string{{"kube-system"}, {"kube-system", "infra"}, nil} {
		s := settings
		s.ExemptNamespaces = exempt
		if changed, err := n.Install(s); err != nil || !changed || n.types(t, "10-lab.conflist") != "ptp portmap tierwall-cni" {
			t.Errorf("exempt %v: changed %v, error %v, chain %s", exempt, changed, err, n.types(t, "10-lab.conflist"))
		}
	}
}

func TestPluginMovesToTheConfigurationThatIsInUse(t *testing.T) {
	n := newNode(t, map[string]string{"10-lab.conflist": lab})
	_, err := n.Install(settings)
	must(t, err)
	n.write(t, "05-first.conflist", lab)
	_, err = n.Install(settings)
	must(t, err)
	if first, old := n.types(t, "05-first.conflist"), n.types(t, "10-lab.conflist"); first != "ptp portmap tierwall-cni" || old != "ptp portmap" {
		t.Errorf("first %s, old %s", first, old)
	}
}

func TestRemoveLeavesTheNodeAsItWas(t *testing.T) {
	n := newNode(t, map[string]string{"10-lab.conflist": lab, "20-broken.conflist": "{"})
	for range 2 {
		_, err := n.Install(settings)
		must(t, err)
		if n.CheckRemoved() == nil {
			t.Error("said to be removed")
		}
		must(t, n.Remove())
		must(t, n.CheckRemoved())
		if got := n.types(t, "10-lab.conflist"); got != "ptp portmap" || n.CheckInstalled() == nil {
			t.Errorf("chain %s", got)
		}
	}
	n.write(t, ".10-lab.conflist.tierwall-new", "what a crash left")
	must(t, n.Remove())
	n.onlyKnownFiles(t, "10-lab.conflist", "20-broken.conflist")
	must(t, Node{BinDir: "/nonexistent", ConfDir: "/nonexistent"}.Remove())
}

// What cannot be a chain is left as it is, and it is said why.
func TestConfigurationsThatCannotTakeThePlugin(t *testing.T) {
	for what, c := range map[string]struct{ name, text, why string }{
		"a single plugin":  {"10-x.conf", `{"cniVersion":"0.4.0","name":"x","type":"bridge"}`, "not a list"},
		"cut short":        {"10-x.conflist", lab[:40], "not a CNI configuration"},
		"empty":            {"10-x.conflist", "", "not a CNI configuration"},
		"no plugins":       {"10-x.conflist", `{"cniVersion":"0.4.0","plugins":[]}`, "no plugin but ours"},
		"ours alone":       {"10-x.conflist", `{"cniVersion":"0.4.0","plugins":[{"type":"tierwall-cni"}]}`, "no plugin but ours"},
		"plugins no list":  {"10-x.conflist", `{"cniVersion":"0.4.0","plugins":{}}`, "cannot be read"},
		"before chains":    {"10-x.conflist", `{"cniVersion":"0.2.0","plugins":[{"type":"ptp"}]}`, "cniVersion"},
		"without version":  {"10-x.conflist", `{"plugins":[{"type":"ptp"}]}`, "cniVersion"},
		"a list of things": {"10-x.conflist", `[1]`, "not a CNI configuration"},
	} {
		n := newNode(t, map[string]string{c.name: c.text})
		_, err := n.Install(settings)
		if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: error %v, want %q", what, err, c.why)
		}
		if text, _ := os.ReadFile(filepath.Join(n.ConfDir, c.name)); string(text) != c.text {
			t.Errorf("%s: is now %s", what, text)
		}
	}
	if _, err := newNode(t, nil).Install(settings); !errors.Is(err, ErrNoNetwork) {
		t.Errorf("without a configuration: %v", err)
	}
}

// Network plugins rewrite their configuration when they start.
func TestPluginStaysInTheChain(t *testing.T) {
	n := newNode(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.KeepInstalled(ctx, settings, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	for _, text := range []string{lab, strings.Replace(lab, "ptp", "bridge", 1)} {
		n.write(t, "new", text)
		must(t, os.Rename(filepath.Join(n.ConfDir, "new"), filepath.Join(n.ConfDir, "10-lab.conflist")))
		deadline := time.Now().Add(20 * time.Second)
		for n.CheckInstalled() != nil && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		must(t, n.CheckInstalled())
	}
	if got := n.types(t, "10-lab.conflist"); got != "bridge portmap tierwall-cni" {
		t.Errorf("chain %s", got)
	}
}
