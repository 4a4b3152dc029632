package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// ModuleDir returns the folder of a Go module that the module in dir requires, and downloads it where it is missing.
// Unlike "go list -m" it also works with an empty module cache.
func ModuleDir(ctx context.Context, dir, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output() // progress goes to standard error
	var found struct{ Dir, Error string }
	if decodeErr := json.Unmarshal(out, &found); decodeErr == nil && found.Error != "" {
		return "", fmt.Errorf("download module %s: %s", module, found.Error)
	}
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("download module %s: %w", module, err)
	}
	if found.Dir == "" {
		return "", fmt.Errorf("download module %s: the go command names no folder: %s", module, out)
	}
	return found.Dir, nil
}
