package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/tierwall/tierwall/cli"
)

// commands are those of the command line, whose help is shown as it is.
var commands = [][]string{{}, {"check"}, {"diff"}, {"explain"}, {"test"}}

// programs run in the cluster: their package below cmd, and their commands.
var programs = []struct {
	dir      string
	commands [][]string
}{
	{"webhook", [][]string{{}}},
	{"enforcer", [][]string{{}, {"cleanup"}}},
}

// renderFlags shows the help of every command. It builds the programs of the cluster.
func renderFlags(root string) (string, error) {
	var b strings.Builder
	b.WriteString("# Commands and flags\n")
	section := func(name, help string) { fmt.Fprintf(&b, "\n## %s\n\n```\n%s\n```\n", name, strings.TrimSpace(help)) }
	for _, args := range commands {
		var out bytes.Buffer
		line := append([]string{"tierwall"}, args...)
		if status := cli.Run(context.Background(), append(line, "--help"), cli.Streams{In: &bytes.Buffer{}, Out: &out, Err: &out}); status != cli.Fine {
			return "", fmt.Errorf("%s --help: exit status %d: %s", strings.Join(line, " "), status, out.String())
		}
		section(strings.Join(line, " "), out.String())
	}
	for _, p := range programs {
		for _, args := range p.commands {
			cmd := exec.Command("go", append(append([]string{"run", "./cmd/" + p.dir}, args...), "--help")...)
			cmd.Dir = root
			var failure bytes.Buffer
			cmd.Stderr = &failure
			out, err := cmd.Output()
			if err != nil {
				return "", fmt.Errorf("%s %s --help: %w: %s", p.dir, strings.Join(args, " "), err, failure.String())
			}
			section(strings.Join(append([]string{p.dir}, args...), " "), string(out))
		}
	}
	return b.String(), nil
}
