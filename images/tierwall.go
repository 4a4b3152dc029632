package images

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// module is the module that the programs are in.
const module = "github.com/tierwall/tierwall"

// Repositories of tierwall's images.
const (
	WebhookRepository  = "tierwall/webhook"
	EnforcerRepository = "tierwall/enforcer"
)

// TierwallNames are the names of tierwall's images.
func TierwallNames() []string { return []string{"webhook", "enforcer"} }

// Tierwall builds tierwall's programs from the work tree, packs all its images
// into the cache, and returns the paths of the archives. It says on log what
// it packs.
func Tierwall(ctx context.Context, log io.Writer, version string) ([]string, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	var archives []string
	for _, name := range TierwallNames() {
		archive, err := Pack(ctx, log, filepath.Join(cache, "tierwall", version), name, version)
		if err != nil {
			return nil, err
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

// commands are the programs of an image, by their directories in cmd.
var commands = map[string][]string{"webhook": {"webhook"}, "enforcer": {"enforcer", "cni", "hooks"}}

// Pack builds the programs of one of tierwall's images and packs it as dir/NAME.tar,
// whose path it returns.
func Pack(ctx context.Context, log io.Writer, dir, name, version string) (string, error) {
	temp, err := os.MkdirTemp("", "pack-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	image, err := tierwallImage(ctx, name, temp, version)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(log, "packing image %s\n", image.Ref)
	for _, program := range commands[name] {
		if err := BuildProgram(ctx, module+"/cmd/"+program, version, filepath.Join(temp, program)); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	archive := filepath.Join(dir, name+".tar")
	return archive, image.WriteTar(archive)
}

// tierwallImage is the image of a name, whose programs are in dir.
func tierwallImage(ctx context.Context, name, dir, version string) (Image, error) {
	switch name {
	case "webhook":
		return Webhook(filepath.Join(dir, "webhook"), version), nil
	case "enforcer":
		cache, err := CacheDir()
		if err != nil {
			return Image{}, err
		}
		userland, err := EnforcerUserland(ctx, cache)
		return Enforcer(dir, version, userland), err
	}
	return Image{}, fmt.Errorf("no image is called %q: there are %v", name, TierwallNames())
}

// nonroot is the user that programs run as which need no rights.
const nonroot = "65532:65532"

var accounts = Layer{
	"/etc/passwd": Text("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"),
	"/etc/group":  Text("root:x:0:\nnonroot:x:65532:\n"),
	"/tmp":        Dir(fs.ModeSticky | 0o777),
}

// Webhook is the image of the admission webhook: one static program.
func Webhook(program, version string) Image {
	return Image{
		Ref:        WebhookRepository + ":" + version,
		Layers:     []Layer{accounts, {"/webhook": Program(program)}},
		Entrypoint: []string{"/webhook"},
		User:       nonroot,
	}
}

// Enforcer is the image of the node agent: a static program on the userland
// that programs the kernel, see [EnforcerUserland]; the CNI plugin, which installs itself; and what
// the chart's hooks run. The programs are in dir.
func Enforcer(dir, version string, userland Layer) Image {
	program := func(name string) File { return Program(filepath.Join(dir, name)) }
	return Image{
		Ref: EnforcerRepository + ":" + version,
		Layers: []Layer{userland, accounts, {
			"/enforcer": program("enforcer"), "/tierwall-cni": program("cni"), "/tierwall-hooks": program("hooks")}},
		Entrypoint: []string{"/enforcer"},
		Env:        []string{"PATH=/usr/sbin:/usr/bin"},
	}
}

// EnforcerUserland is iptables in both variants with its extensions, nft and
// ipset, and the names of protocols and services. A plain iptables is the nft
// variant.
func EnforcerUserland(ctx context.Context, cache string) (Layer, error) {
	layer, err := Userland{
		Packages: []string{"ipset", "iptables", "netbase", "nftables"},
		Files: []string{
			"/etc/protocols",
			"/etc/services",
			"/usr/lib/*/xtables/*.so",
			"/usr/sbin/ip*tables-legacy*",
			"/usr/sbin/ip*tables-nft*",
			"/usr/sbin/ipset",
			"/usr/sbin/nft",
		},
	}.Layer(ctx, cache)
	if err != nil {
		return nil, err
	}
	for _, tool := range []string{"iptables", "iptables-restore", "iptables-save", "ip6tables", "ip6tables-restore", "ip6tables-save"} {
		layer["/usr/sbin/"+tool] = Link("xtables-nft-multi")
	}
	return layer, nil
}
