// Command pack builds tierwall's programs and packs their images as archives
// that `ctr -n k8s.io images import` takes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tierwall/tierwall/images"
)

func main() {
	out := flag.String("o", ".", "directory for the archives, NAME.tar")
	version := flag.String("version", "", "version of the programs and tag of the images (default the chart's appVersion)")
	flag.Usage = usage
	flag.Parse()
	if err := pack(*out, *version, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// pack packs the images of these names, or all of them.
func pack(out, version string, names []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if version == "" {
		var err error
		if version, err = images.ChartVersion("."); err != nil {
			return fmt.Errorf("%w; run pack in the repository's root, or give it -version", err)
		}
	}
	if len(names) == 0 {
		names = images.TierwallNames()
	}
	for _, name := range names {
		archive, err := images.Pack(ctx, os.Stderr, out, name, version)
		if err != nil {
			return err
		}
		fmt.Println(archive)
	}
	return nil
}

func usage() {
	fmt.Fprintln(flag.CommandLine.Output(), "Usage: pack [-o DIR] [-version VERSION] [webhook] [enforcer]")
	flag.PrintDefaults()
}
