package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/tierwall/tierwall/test/bench/usage"
	"github.com/tierwall/tierwall/test/bench/workload"
)

// memoryLimit is the soft limit that the chart gives an agent.
const memoryLimit = "GOMEMLIMIT=110MiB"

// buildAgent builds the node agent in a folder, as the image has it. It is a program of its own, because
// the memory of this one's would be measured too.
func buildAgent(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "agent")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/tierwall/tierwall/test/bench/agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the agent: %w: %s", err, out)
	}
	return program, nil
}

// runAgent runs an agent on an API server with the town.
func runAgent(ctx context.Context, program string, size workload.Town) (usage.Usage, error) {
	server := httptest.NewServer(apiServer{size})
	defer server.Close()
	defer server.CloseClientConnections()
	cmd := exec.CommandContext(ctx, program, server.URL)
	cmd.Env = append(os.Environ(), memoryLimit)
	return said(cmd)
}

// runWebhook runs this program, in a process of its own, as a webhook on an API server with the town.
func runWebhook(ctx context.Context, size workload.Town) (usage.Usage, error) {
	server := httptest.NewServer(apiServer{size})
	defer server.Close()
	defer server.CloseClientConnections()
	self, err := os.Executable()
	if err != nil {
		return usage.Usage{}, err
	}
	return said(exec.CommandContext(ctx, self, "-webhook", server.URL, "-pods", fmt.Sprint(size.Pods), "-policies", fmt.Sprint(size.Policies)))
}

// said is what a process says that it takes.
func said(cmd *exec.Cmd) (u usage.Usage, err error) {
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return u, err
	}
	return u, json.Unmarshal(out, &u)
}
