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

// Node has the paths of a node.
type Node struct {
	// BinDir is where the container runtime looks for plugins, ConfDir for configurations.
	BinDir, ConfDir string
	// Program is the plugin's program, to be copied.
	Program string
}

// Settings are those of our entry of the chain.
type Settings struct {
	Socket           string
	TimeoutSeconds   int
	ExemptNamespaces []string
}

func (s Settings) pluginEntry() *entry {
	exempt := append([]string{}, s.ExemptNamespaces...)
	slices.Sort(exempt)
	return &entry{Type: cni.Type, Socket: s.Socket, TimeoutSeconds: s.TimeoutSeconds, ExemptNamespaces: exempt}
}

// Install copies the program, then adds the plugin to the configuration that the runtime uses, the first by name. It
// reports whether it wrote the configuration. It does not write what is right already.
func (n Node) Install(s Settings) (changed bool, err error) {
	if err := n.copyProgram(); err != nil {
		return false, fmt.Errorf("install the CNI plugin's program: %w", err)
	}
	file, err := n.firstConfiguration()
	if err != nil {
		return false, err
	}
	err = editFile(file, func(c *chain) ([]byte, error) {
		if c.hasEntry(s.pluginEntry()) {
			return nil, nil
		}
		changed = true
		return c.withEntry(s.pluginEntry())
	})
	if err != nil {
		return false, err
	}
	return changed, n.removeEntries(func(other string) bool { return other != file })
}

// Remove removes the plugin from every configuration, then its program and temporary files.
func (n Node) Remove() error {
	if err := n.removeEntries(func(string) bool { return true }); err != nil {
		return err
	}
	ours := []string{filepath.Join(n.BinDir, cni.Type)}
	for _, dir := range []string{n.BinDir, n.ConfDir} {
		temps, err := filepath.Glob(filepath.Join(dir, ".*"+tempSuffix))
		if err != nil {
			return fmt.Errorf("list temporary files in %s: %w", dir, err)
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

// CheckInstalled returns an error unless the plugin is installed, whatever the settings.
func (n Node) CheckInstalled() error {
	if _, err := os.Stat(filepath.Join(n.BinDir, cni.Type)); err != nil {
		return err
	}
	file, err := n.firstConfiguration()
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

// CheckRemoved returns an error unless the plugin is removed.
func (n Node) CheckRemoved() error {
	files, err := n.listConfigurations()
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

// removeEntries removes the plugin from these configurations.
func (n Node) removeEntries(which func(file string) bool) error {
	files, err := n.listConfigurations()
	if err != nil {
		return err
	}
	for _, file := range files {
		if c, err := readChain(file); !which(file) || err != nil || !c.mentionsUs() {
			continue // we did not write what cannot be parsed
		}
		if err := editFile(file, (*chain).withoutEntry); err != nil {
			return err
		}
	}
	return nil
}

// listConfigurations returns the files that a container runtime reads, in its order.
func (n Node) listConfigurations() ([]string, error) {
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

// ErrNoNetwork is returned until the node's own network plugin is set up.
var ErrNoNetwork = errors.New("there is no CNI configuration yet")

func (n Node) firstConfiguration() (string, error) {
	files, err := n.listConfigurations()
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

// editFile atomically replaces a configuration; without a text it stays unchanged.
func editFile(file string, change func(*chain) ([]byte, error)) error {
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
	return replaceFile(file, text, info)
}

// copyProgram installs the program unless it is installed already.
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
	return replaceFile(file, text, nil)
}

// tempSuffix is the suffix of temporary files, whose names begin with a dot.
const tempSuffix = ".tierwall-new"

// replaceFile atomically replaces a file, with the mode and owner of another, or those of a program. A crash leaves the old
// file, and a temporary one that no runtime reads and that is removed the next time.
func replaceFile(file string, text []byte, like os.FileInfo) error {
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
			_ = f.Chown(int(owner.Uid), int(owner.Gid)) // our own owner does if that is not permitted
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
