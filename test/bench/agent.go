package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/tierwall/tierwall/cluster"
	"github.com/tierwall/tierwall/enforcer"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/test/bench/town"
)

// usage is the memory of an agent, in bytes.
type usage struct {
	// Heap is what is live on it.
	Heap uint64
	// Resident is what the process has of the machine's memory, Peak the most that it had.
	Resident, Peak uint64
	// Synced is how long it took until the first program was in force.
	Synced time.Duration
}

// runAgent runs an agent, in a process of its own, on an API server with the town.
func runAgent(ctx context.Context, size town.Town) (usage, error) {
	return runAlone(ctx, size, "-agent")
}

// runAlone runs this program in a process of its own, as what the flag says.
func runAlone(ctx context.Context, size town.Town, as string) (usage, error) {
	server := httptest.NewServer(apiServer{size})
	defer server.Close()
	defer server.CloseClientConnections()
	self, err := os.Executable()
	if err != nil {
		return usage{}, err
	}
	cmd := exec.CommandContext(ctx, self, as, server.URL, "-pods", fmt.Sprint(size.Pods), "-policies", fmt.Sprint(size.Policies))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return usage{}, err
	}
	var u usage
	return u, json.Unmarshal(out, &u)
}

// beAgent is a node agent, all but its kernel. It says what memory it needs and ends.
func beAgent(ctx context.Context, url string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	defaults := policy.Defaults{Action: policy.Deny, Exempt: []string{"kube-system"}}
	watcher, err := cluster.New(&rest.Config{Host: url}, defaults, log)
	if err != nil {
		return err
	}
	agent := &enforcer.Enforcer{Node: town.Node(0), Defaults: defaults, Source: watcher, Backend: kernel{}, Log: log}
	ended := make(chan error, 2)
	go func() { ended <- watcher.Start(ctx) }()
	go func() { ended <- agent.Start(ctx) }()
	for !agent.InForce() {
		select {
		case err := <-ended:
			return errors.Join(errors.New("the agent ended"), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	u := usage{Synced: time.Since(start)}
	if err := u.measure(); err != nil {
		return err
	}
	cancel()
	return errors.Join(json.NewEncoder(os.Stdout).Encode(u), <-ended, <-ended)
}

func (u *usage) measure() error {
	for range 2 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Heap = m.HeapAlloc
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		var kilobytes uint64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kilobytes); err == nil {
			u.Peak = kilobytes * 1024
		}
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kilobytes); err == nil {
			u.Resident = kilobytes * 1024
		}
	}
	return nil
}

// kernel takes every program.
type kernel struct{}

func (kernel) Programmed() bool                             { return true }
func (kernel) Apply(context.Context, *policy.Program) error { return nil }
func (kernel) Update(context.Context, *policy.Change) error { return nil }
func (kernel) Repair(context.Context) (bool, error)         { return false, nil }
