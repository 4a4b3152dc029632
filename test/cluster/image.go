package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/tierwall/tierwall/images"
)

// AgnhostImage is the upstream image for tests of networks, as the e2e tests
// of this version of Kubernetes name it. The lab packs its own.
const AgnhostImage = "registry.k8s.io/e2e-test-images/agnhost:2.59"

// BusyboxImage has a shell and the usual small tools.
const BusyboxImage = "docker.io/tierwall-lab/busybox:1.35"

// bootImages is how many of the lab's images, the first, the boot waits for.
const bootImages = 2

// labImages packs the lab's own images into the cache and returns the paths
// of the archives.
func labImages(ctx context.Context, log io.Writer, programs binaries) ([]string, error) {
	cache, err := images.CacheDir()
	if err != nil {
		return nil, err
	}
	pause, err := buildPause(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("build pause: %w", err)
	}
	busybox, err := busyboxImage(ctx, cache)
	if err != nil {
		return nil, err
	}
	agnhost, err := agnhostImage(ctx, cache, AgnhostImage, programs["agnhost"])
	if err != nil {
		return nil, err
	}
	var archives []string
	for _, image := range []images.Image{
		oneProgram(pauseImage, "/pause", pause),
		oneProgram(coreDNSImage, "/coredns", programs["coredns"]),
		agnhost,
		busybox,
	} {
		archive, err := pack(cache, log, image)
		if err != nil {
			return nil, err
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

// oneProgram is an image of one static program, which is its entry point.
func oneProgram(ref, path, program string) images.Image {
	return images.Image{
		Ref:        ref,
		Entrypoint: []string{path},
		Env:        []string{"PATH=/"},
		Layers:     []images.Layer{{path: images.Program(program), "/tmp": images.Dir(os.ModeSticky | 0o777)}},
	}
}

// AgnhostArchive packs the lab's agnhost under another name, unless it is packed
// already, and returns the path of the archive. Agnhost must have been built:
// see [Build].
func AgnhostArchive(ctx context.Context, log io.Writer, ref string) (string, error) {
	cache, err := images.CacheDir()
	if err != nil {
		return "", err
	}
	program, err := Program("agnhost")
	if err != nil {
		return "", err
	}
	image, err := agnhostImage(ctx, cache, ref, program)
	if err != nil {
		return "", err
	}
	return pack(cache, log, image)
}

// agnhostImage has agnhost with bash, which tests start it by.
func agnhostImage(ctx context.Context, cache, ref, program string) (images.Image, error) {
	bash, err := images.Userland{Packages: []string{"bash"}, Files: []string{"/usr/bin/bash"}}.Layer(ctx, cache)
	if err != nil {
		return images.Image{}, err
	}
	image := oneProgram(ref, "/agnhost", program)
	image.Env = []string{"PATH=/:/bin"}
	image.Layers = append([]images.Layer{bash}, image.Layers...)
	image.Cmd = []string{"pause"}
	return image, nil
}

// busyboxImage is a busybox that is linked dynamically: the static one cannot
// look up names.
func busyboxImage(ctx context.Context, cache string) (images.Image, error) {
	layer, err := images.Userland{Packages: []string{"busybox"}, Files: []string{"/usr/bin/busybox"}}.Layer(ctx, cache)
	if err != nil {
		return images.Image{}, err
	}
	for _, applet := range []string{"cat", "httpd", "ip", "ls", "nc", "nslookup", "ping", "sh", "sleep", "timeout", "wget"} {
		layer["/usr/bin/"+applet] = images.Link("busybox")
	}
	return images.Image{
		Ref:    BusyboxImage,
		Layers: []images.Layer{layer},
		Cmd:    []string{"/bin/sh"},
		Env:    []string{"PATH=/bin"},
	}, nil
}

// pack packs an image unless the cache has one of the same contents.
func pack(cache string, log io.Writer, image images.Image) (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%+v", image)
	for _, layer := range image.Layers {
		for _, path := range slices.Sorted(maps.Keys(layer)) {
			source := layer[path].Source
			if source == "" {
				continue
			}
			info, err := os.Stat(source)
			if err != nil {
				return "", fmt.Errorf("image %s: %w", image.Ref, err)
			}
			fmt.Fprintln(sum, info.Size(), info.ModTime())
		}
	}
	key := hex.EncodeToString(sum.Sum(nil))[:12]
	archive := filepath.Join(cache, "images", key+".tar")
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		return "", err
	}
	fmt.Fprintf(log, "packing image %s\n", image.Ref)
	return archive, image.WriteTar(archive)
}

// buildPause builds the first process of pods, which is part of this
// repository.
func buildPause(ctx context.Context, cache string) (string, error) {
	root, err := repositoryRoot()
	if err != nil {
		return "", err
	}
	source, err := os.ReadFile(filepath.Join(root, "test/cluster/pause/main.go"))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(source)
	out := filepath.Join(cache, "pause-"+hex.EncodeToString(sum[:])[:12], "pause")
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	return out, images.Go(ctx, root, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, "./test/cluster/pause")
}
