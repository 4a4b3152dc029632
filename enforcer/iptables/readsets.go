package iptables

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tierwall/tierwall/enforcer/command"
)

// readTries is how often our sets are read if one of them is destroyed meanwhile.
const readTries = 5

// readSets gives our sets of both families as ipset save prints them. It takes two
// programs, and reads no element of the sets of others.
func readSets(ctx context.Context) (string, error) {
	for try := 1; ; try++ {
		names, err := command.Run(ctx, nil, "ipset", "list", "-n")
		if err != nil {
			return "", fmt.Errorf("listing the sets: %w", err)
		}
		var lines []string
		for _, name := range strings.Fields(names) {
			if ourSet(name) {
				lines = append(lines, "save "+name)
			}
		}
		if len(lines) == 0 {
			return "", nil
		}
		text, err := command.Run(ctx, lines, "ipset", "restore")
		if err == nil {
			return text, nil
		}
		var failed *command.Error
		if gone := errors.As(err, &failed) && failed.Line() > 0; !gone || try == readTries {
			return "", fmt.Errorf("reading the sets: %w", err)
		}
	}
}
