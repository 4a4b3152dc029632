package main

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// tasks are what the agent does side by side. When one fails, or when the context ends, all end.
type tasks []func(context.Context) error

func (t *tasks) addTask(task func(context.Context) error) { *t = append(*t, task) }

func (t tasks) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, task := range t {
		group.Go(func() error { return task(ctx) })
	}
	return group.Wait()
}
