package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// licensePackage has the texts that the copyright files of packages refer to.
const licensePackage = "base-files"

// A Userland says what to take from Debian packages.
type Userland struct {
	Packages []string // by name; the packages they depend on are found
	Files    []string // absolute paths, or path.Match patterns
}

// Layer is the files of the userland with everything that they need to run:
// the targets of links, shared libraries and the dynamic linker; and with the
// copyright files of the packages that they come from. Nothing else of a
// package is in it: no shell, no package manager.
//
// The packages are those that apt would install on this machine now. They are
// downloaded and unpacked into cache, again when apt knows newer ones.
func (u Userland) Layer(ctx context.Context, cache string) (Layer, error) {
	root, err := u.unpacked(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("userland from Debian packages: %w", err)
	}
	tree, err := readTree(root)
	if err != nil {
		return nil, fmt.Errorf("userland from Debian packages: %w", err)
	}
	for _, pattern := range u.Files {
		if err := tree.take(pattern); err != nil {
			return nil, fmt.Errorf("userland from Debian packages: %s: %w", pattern, err)
		}
	}
	return tree.layer(), nil
}

// unpacked is a directory with one directory for each package.
func (u Userland) unpacked(ctx context.Context, cache string) (string, error) {
	dir, err := u.dir(cache)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(cache, ".unpacking-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	names, err := closure(ctx, u.Packages)
	if err != nil {
		return "", err
	}
	if err := download(ctx, temp, names); err != nil {
		return "", err
	}
	if dir, err = u.dir(cache); err != nil { // the lists may be new
		return "", err
	}
	err = os.Rename(temp, dir)
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, os.ErrExist) {
		err = nil // unpacked by another process in the meantime
	}
	return dir, err
}

// dir is where the packages are kept, under a name that changes with the
// packages that apt knows.
func (u Userland) dir(cache string) (string, error) {
	lists, err := filepath.Glob("/var/lib/apt/lists/*InRelease")
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, u.Packages)
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			return "", err
		}
		sum.Write(text)
	}
	return filepath.Join(cache, "debian-"+hex.EncodeToString(sum.Sum(nil))[:12]), nil
}

// closure is the packages with those that they depend on, and the package of
// licenses, sorted. A machine whose package lists are empty or old gets new
// ones.
func closure(ctx context.Context, packages []string) ([]string, error) {
	args := []string{"depends", "--recurse", "--no-recommends", "--no-suggests",
		"--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"}
	out, err := apt(ctx, "", "apt-cache", append(args, packages...)...)
	if err != nil {
		if _, err := apt(ctx, "", "apt-get", "update"); err != nil {
			return nil, err
		}
		if out, err = apt(ctx, "", "apt-cache", append(args, packages...)...); err != nil {
			return nil, err
		}
	}
	names := []string{licensePackage}
	for line := range strings.Lines(out) {
		// Dependencies are indented; virtual packages are in brackets.
		if name := strings.TrimRight(line, "\n"); name != "" && !strings.ContainsAny(name[:1], " |<") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// download downloads packages, which apt verifies, and unpacks each into a
// directory of dir.
func download(ctx context.Context, dir string, names []string) error {
	if _, err := apt(ctx, dir, "apt-get", append([]string{"download"}, names...)...); err != nil {
		// The lists may name versions that are gone.
		if _, err := apt(ctx, dir, "apt-get", "update"); err != nil {
			return err
		}
		if _, err := apt(ctx, dir, "apt-get", append([]string{"download"}, names...)...); err != nil {
			return err
		}
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, archive := range archives {
		name, _, _ := strings.Cut(filepath.Base(archive), "_")
		if _, err := apt(ctx, dir, "dpkg-deb", "-x", archive, filepath.Join(dir, name)); err != nil {
			return err
		}
		if err := os.Remove(archive); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}

// apt runs a package tool in dir, without questions and in plain English.
func apt(ctx context.Context, dir, tool string, args ...string) (string, error) {
	if tool == "apt-get" {
		args = append([]string{"-q", "-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=300"}, args...)
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), err, tail(stderr.String()))
	}
	return string(out), nil
}
