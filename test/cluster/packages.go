package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

//go:embed packages.txt
var packageList string

// Packages are the Debian packages that the lab needs.
func Packages() []string { return strings.Fields(packageList) }

// missingPackages are those that are not installed.
func missingPackages() []string {
	var missing []string
	for _, name := range Packages() {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${db:Status-Status}", name).Output()
		if err != nil || string(out) != "installed" {
			missing = append(missing, name)
		}
	}
	return missing
}

func checkPackages() error {
	if missing := missingPackages(); len(missing) > 0 {
		return fmt.Errorf("missing Debian packages, which `lab packages` installs: %s", strings.Join(missing, " "))
	}
	return nil
}

// InstallPackages installs the Debian packages that are missing, without
// questions, and starts no service on the host. It needs root.
func InstallPackages(ctx context.Context, log io.Writer) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintf(log, "installing Debian packages: %s\n", strings.Join(missing, " "))
	allow, err := denyServices()
	if err != nil {
		return fmt.Errorf("keep packages from starting services: %w", err)
	}
	defer allow()
	if err := aptGet(ctx, "update"); err != nil {
		return err
	}
	install := []string{"install", "-y", "--no-install-recommends"}
	return aptGet(ctx, append(install, missing...)...)
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=300"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, tail(string(out), 40))
	}
	return nil
}

// policyFile is what Debian's invoke-rc.d asks before it starts a service;
// see invoke-rc.d(8).
const policyFile = "/usr/sbin/policy-rc.d"

// denyServices forbids packages to start services, until undo is called. A
// policy that the host has stays in force instead.
func denyServices() (undo func(), err error) {
	f, err := os.OpenFile(policyFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return func() {}, nil
	} else if err != nil {
		return nil, err
	}
	undo = func() { os.Remove(policyFile) }
	_, err = f.WriteString("#!/bin/sh\nexit 101\n")
	if err := errors.Join(err, f.Close()); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}
