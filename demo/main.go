// Command demo shows tierwall at work: it boots a real cluster of two nodes on
// this machine, installs tierwall with Helm, and lets a shop of three tiers be
// labelled, guarded and isolated.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tierwall/tierwall/images"
	"github.com/tierwall/tierwall/test/cluster"
)

func main() {
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, "demo: boot a cluster, install tierwall, and show a shop of three tiers being isolated\n\n"+
			"Run it as root from the top of the repository: make demo. It leaves the cluster up;\nmake demo-down removes every trace.\n")
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		fmt.Fprintln(os.Stderr, "demo: make demo-down removes what is up")
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	start := time.Now()
	heading(1, "A real cluster of two nodes on this machine")
	c, err := boot(ctx)
	if err != nil {
		return err
	}
	sh, err := newShell(c)
	if err != nil {
		return err
	}
	for _, part := range []func(context.Context, *shell, *cluster.Cluster) error{
		deployShop, install, isolate, mistakes, soundChange, forgeries, chains,
	} {
		if err := part(ctx, sh, c); err != nil {
			return err
		}
	}
	farewell(c, time.Since(start))
	return nil
}

// boot packs tierwall's images and boots the lab with them.
func boot(ctx context.Context) (*cluster.Cluster, error) {
	archives, err := images.Tierwall(ctx, os.Stderr, "dev")
	if err != nil {
		return nil, fmt.Errorf("pack the images: %w", err)
	}
	start := time.Now()
	c, err := cluster.Up(ctx, cluster.Options{Images: archives, Log: os.Stderr})
	if err != nil {
		return nil, fmt.Errorf("boot the cluster: %w", err)
	}
	say("up in %.1f s", time.Since(start).Seconds())
	return c, nil
}

func deployShop(ctx context.Context, sh *shell, c *cluster.Cluster) error {
	heading(2, "A shop, deployed as anyone would; every pod reaches every other")
	if err := sh.must(ctx, "kubectl", "apply", "-f", "demo/shop/app.yaml"); err != nil {
		return err
	}
	for _, ns := range namespaces {
		if _, err := sh.run(ctx, "kubectl", "-n", ns, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=60s"); err != nil {
			return err
		}
	}
	return showTable(ctx, sh, c)
}

func showTable(ctx context.Context, sh *shell, c *cluster.Cluster) error {
	shop, err := findShop(ctx, sh)
	if err != nil {
		return err
	}
	r, err := measure(ctx, sh, c, shop)
	if err != nil {
		return err
	}
	printTable(shop, r)
	return nil
}

func install(ctx context.Context, sh *shell, _ *cluster.Cluster) error {
	heading(3, "tierwall, installed with Helm and its default values")
	if err := sh.must(ctx, "helm", "install", "tierwall", "charts/tierwall", "-n", "tierwall-system", "--create-namespace"); err != nil {
		return err
	}
	for _, workload := range []string{"deployment/tierwall-webhook", "daemonset/tierwall-enforcer"} {
		if err := sh.must(ctx, "kubectl", "-n", "tierwall-system", "rollout", "status", workload, "--timeout=90s"); err != nil {
			return err
		}
	}
	return nil
}

func isolate(ctx context.Context, sh *shell, c *cluster.Cluster) error {
	heading(4, "Roles, and policies that speak of them: front end to back end to data, and nothing else")
	for _, file := range []string{"demo/shop/roles.yaml", "demo/shop/policies.yaml"} {
		if err := sh.must(ctx, "kubectl", "apply", "-f", file); err != nil {
			return err
		}
	}
	if err := awaitRoles(ctx, sh); err != nil {
		return err
	}
	if err := sh.must(ctx, "kubectl", "-n", "prod", "get", "pods", "-L", "tierwall.io/tier-role"); err != nil {
		return err
	}
	return showTable(ctx, sh, c)
}

// awaitRoles waits until the pods that were there before show their roles.
func awaitRoles(ctx context.Context, sh *shell) error {
	for _, ns := range namespaces {
		for _, t := range tiers {
			_, err := sh.run(ctx, "kubectl", "-n", ns, "wait", "pod", "-l", "app="+t.name,
				`--for=jsonpath={.metadata.labels.tierwall\.io/tier-role}=`+t.name, "--timeout=30s")
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func mistakes(ctx context.Context, sh *shell, _ *cluster.Cluster) error {
	heading(5, "Policies that open the data tier are refused, by what they would let reach what")
	return errors.Join(
		sh.refused(ctx, "kubectl", "apply", "-f", "demo/changes/open-data-to-test.yaml"),
		sh.refused(ctx, "kubectl", "apply", "-f", "demo/changes/open-data-to-world.yaml"))
}

// soundChange measures, with a new connection every millisecond, how soon a
// change is in force.
func soundChange(ctx context.Context, sh *shell, _ *cluster.Cluster) error {
	heading(6, "A sound policy is admitted, and in force at once")
	shop, err := findShop(ctx, sh)
	if err != nil {
		return err
	}
	from, to := shop[1], shop[0] // prod/backend, prod/frontend
	probe := sh.command(ctx, "kubectl", "-n", from.namespace, "exec", from.pod, "--",
		"/probe", "watch", "-timeout", "500ms", "-for", "20s", to.targets()[0])
	lines, err := probe.StdoutPipe()
	if err != nil {
		return err
	}
	if err := probe.Start(); err != nil {
		return err
	}
	defer func() { _ = probe.Process.Kill(); _ = probe.Wait() }()
	time.Sleep(time.Second) // let the probe be seen to fail first
	err, returned := sh.show(ctx, "kubectl", "apply", "-f", "demo/changes/backend-callback.yaml")
	if err != nil {
		return err
	}
	first, ok := firstReached(lines)
	if !ok {
		return errors.New("no packet went through after the policy was admitted")
	}
	took := first.Sub(returned).Round(100 * time.Microsecond)
	if took <= 0 {
		say("%s", green(fmt.Sprintf("the first packet went through %v before kubectl had returned", -took)))
	} else {
		say("%s", green(fmt.Sprintf("the first packet went through %v after kubectl returned", took)))
	}
	return nil
}

func forgeries(ctx context.Context, sh *shell, c *cluster.Cluster) error {
	heading(7, "Forged roles get nowhere")
	if err := sh.must(ctx, "kubectl", "apply", "-f", "demo/changes/forged.yaml"); err != nil {
		return err
	}
	if _, err := sh.run(ctx, "kubectl", "-n", "prod", "wait", "pod/intruder", "--for=condition=Ready", "--timeout=30s"); err != nil {
		return err
	}
	if err := sh.must(ctx, "kubectl", "-n", "prod", "get", "pod", "intruder", "-L", "tierwall.io/tier-role"); err != nil {
		return err
	}
	shop, err := findShop(ctx, sh)
	if err != nil {
		return err
	}
	data := shop[2]
	text, err := sh.run(ctx, append([]string{"kubectl", "-n", "prod", "exec", "intruder", "--", "/probe", "reach", "-timeout", "700ms"}, data.targets()...)...)
	if err != nil {
		return err
	}
	for a := range attempts(strings.NewReader(text)) {
		if a.Reached {
			return fmt.Errorf("the intruder reached %s", a.Target)
		}
		say("the intruder tries %s: %s", a.Target, faint("no answer"))
	}
	return sh.refused(ctx, "kubectl", "-n", "test", "label", "pod", shop[3].pod, "--overwrite", "tierwall.io/tier-role=data")
}
