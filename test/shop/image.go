package shop

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/tierwall/tierwall/images"
)

// Image is the image of the shop's pods: the probe, which serves and connects.
const Image = "docker.io/tierwall-lab/probe:dev"

// Probe is the probe's program and its image.
type Probe struct{ Program, Archive string }

// BuildProbe builds the probe into dir and packs its image there.
func BuildProbe(ctx context.Context, dir string) (Probe, error) {
	p := Probe{Program: filepath.Join(dir, "probe"), Archive: filepath.Join(dir, "probe.tar")}
	if err := images.BuildProgram(ctx, "github.com/tierwall/tierwall/test/probe", "dev", p.Program); err != nil {
		return Probe{}, fmt.Errorf("build the probe: %w", err)
	}
	image := images.Image{
		Ref:        Image,
		Entrypoint: []string{"/probe"},
		Layers:     []images.Layer{{"/probe": images.Program(p.Program)}},
	}
	return p, image.WriteTar(p.Archive)
}
