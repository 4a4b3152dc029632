// Package install puts the CNI plugin into a node's network configuration, keeps it there, and
// takes it out again.
package install

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/tierwall/tierwall/enforcer/cni"
)

// Node says where things are on a node.
type Node struct {
	// BinDir is where the container runtime looks for plugins, ConfDir for configurations.
	BinDir, ConfDir string
	// Program is the plugin's program, to be copied.
	Program string
}

// Settings are what our entry of the chain says.
type Settings struct {
	Socket           string
	TimeoutSeconds   int
	ExemptNamespaces []string
}

func (s Settings) entry() *entry {
	exempt := append([]string{}, s.ExemptNamespaces...)
	slices.Sort(exempt)
	return &entry{Type: cni.Type, Socket: s.Socket, TimeoutSeconds: s.TimeoutSeconds, ExemptNamespaces: exempt}
}

// Install puts the program in place, then the plugin into the configuration that the runtime uses,
// which is the first by name. It reports whether it wrote the configuration. What is right already is left as it is.
func (n Node) Install(s Settings) (changed bool, err error) {
	if err := n.copyProgram(); err != nil {
		return false, fmt.Errorf("install the CNI plugin's program: %w", err)
	}
	file, err := n.first()
	if err != nil {
		return false, err
	}
	err = edit(file, func(c *chain) ([]byte, error) {
		if c.has(s.entry()) {
			return nil, nil
		}
		changed = true
		return c.with(s.entry())
	})
	if err != nil {
		return false, err
	}
	return changed, n.leave(func(other string) bool { return other != file })
}

// Remove takes the plugin out of every configuration, and then its program away, and what a crash left.
func (n Node) Remove() error {
	if err := n.leave(func(string) bool { return true }); err != nil {
		return err
	}
	ours := []string{filepath.Join(n.BinDir, cni.Type)}
	for _, dir := range []string{n.BinDir, n.ConfDir} {
		temps, err := filepath.Glob(filepath.Join(dir, ".*"+tempSuffix))
		if err != nil {
			return fmt.Errorf("look for what a crash left in %s: %w", dir, err)
		}
		ours = append(ours, temps...)
	}
	for _, file := range ours {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the CNI plugin: %w", err)
		}
	}
	return nil
}

// Installed says what is missing to be as Install leaves it, whatever the settings.
func (n Node) Installed() error {
	if _, err := os.Stat(filepath.Join(n.BinDir, cni.Type)); err != nil {
		return err
	}
	file, err := n.first()
	if err != nil {
		return err
	}
	c, err := readChain(file)
	if err != nil {
		return err
	}
	if !c.mentionsUs() {
		return fmt.Errorf("the plugin is not in %s", file)
	}
	return nil
}

// Removed says what is left to be as Remove leaves it.
func (n Node) Removed() error {
	files, err := n.configurations()
	if err != nil {
		return err
	}
	for _, file := range files {
		if c, err := readChain(file); err == nil && c.mentionsUs() {
			return fmt.Errorf("the plugin is in %s", file)
		}
	}
	if _, err := os.Lstat(filepath.Join(n.BinDir, cni.Type)); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the plugin's program is in %s", n.BinDir)
	}
	return nil
}

// leave takes the plugin out of these configurations.
func (n Node) leave(which func(file string) bool) error {
	files, err := n.configurations()
	if err != nil {
		return err
	}
	for _, file := range files {
		if c, err := readChain(file); !which(file) || err != nil || !c.mentionsUs() {
			continue // what cannot be read has not been written by us
		}
		if err := edit(file, (*chain).without); err != nil {
			return err
		}
	}
	return nil
}

// configurations are the files that a container runtime looks at, in its order.
func (n Node) configurations() ([]string, error) {
	entries, err := os.ReadDir(n.ConfDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for CNI configurations: %w", err)
	}
	var out []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && slices.Contains([]string{".conf", ".conflist", ".json"}, ext) {
			out = append(out, filepath.Join(n.ConfDir, e.Name()))
		}
	}
	return out, nil
}

// ErrNoNetwork says that the node's own network plugin has not been set up yet.
var ErrNoNetwork = errors.New("there is no CNI configuration yet")

func (n Node) first() (string, error) {
	files, err := n.configurations()
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", fmt.Errorf("%s: %w", n.ConfDir, ErrNoNetwork)
	}
	return files[0], nil
}

func readChain(file string) (*chain, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c, err := parseChain(text)
	if err != nil {
		return nil, fmt.Errorf("CNI configuration %s: %w", file, err)
	}
	return c, nil
}

// edit replaces a configuration at once; no text leaves it as it is.
func edit(file string, change func(*chain) ([]byte, error)) error {
	c, err := readChain(file)
	if err != nil {
		return err
	}
	text, err := change(c)
	if err != nil {
		return fmt.Errorf("CNI configuration %s: %w", file, err)
	}
	if text == nil {
		return nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return replace(file, text, info)
}

// copyProgram puts the program in place unless it is there.
func (n Node) copyProgram() error {
	text, err := os.ReadFile(n.Program)
	if err != nil {
		return err
	}
	file := filepath.Join(n.BinDir, cni.Type)
	info, err := os.Lstat(file)
	if err == nil && info.Mode() == 0o755 {
		if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, text) {
			return nil
		}
	}
	return replace(file, text, nil)
}

// tempSuffix ends the names of files that are being written, behind a dot.
const tempSuffix = ".tierwall-new"

// replace writes a file and puts it in place in one step, with the mode and owner of another, or
// else those of a program. A crash before leaves the old one and a file that no runtime looks at, which
// is removed the next time.
func replace(file string, text []byte, like os.FileInfo) error {
	temp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+tempSuffix)
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	defer f.Close()
	mode := os.FileMode(0o755)
	if like != nil {
		mode = like.Mode().Perm()
		if owner, ok := like.Sys().(*syscall.Stat_t); ok {
			_ = f.Chown(int(owner.Uid), int(owner.Gid)) // ours will do where that is not permitted
		}
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Sync()); err != nil {
		return err
	}
	return os.Rename(temp, file)
}
