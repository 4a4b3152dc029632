package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tierwall/tierwall/images"
	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/shop"
)

// story is the demonstration as it is told: its parts in order, and the
// cluster in which they happen.
type story struct {
	shell
	cluster *cluster.Cluster
	probe   shop.Probe
	scratch string // a folder for what is built, removed at the end
	start   time.Time
}

// begin packs the images and boots the cluster with them.
func begin(ctx context.Context) (*story, error) {
	s := &story{start: time.Now()}
	var err error
	if s.scratch, err = os.MkdirTemp("", "tierwall-demo-"); err != nil {
		return nil, err
	}
	return s, s.boot(ctx)
}

func (s *story) boot(ctx context.Context) error {
	heading(1, "A real cluster of two nodes on this machine")
	chart, err := shop.ReadChart(".")
	if err != nil {
		return err
	}
	archives, err := images.Tierwall(ctx, os.Stderr, chart.AppVersion)
	if err != nil {
		return fmt.Errorf("pack the images: %w", err)
	}
	if s.probe, err = shop.BuildProbe(ctx, s.scratch); err != nil {
		return err
	}
	booting := time.Now()
	if s.cluster, err = cluster.Up(ctx, cluster.Options{Images: append(archives, s.probe.Archive), Log: os.Stderr}); err != nil {
		return fmt.Errorf("boot the cluster: %w", err)
	}
	say("up in %.1f s", time.Since(booting).Seconds())
	sh, err := shop.NewShell(s.cluster)
	s.shell = shell{sh}
	return err
}

func (s *story) deployShop(ctx context.Context) error {
	heading(2, "A shop, deployed as anyone would; every pod reaches every other")
	if err := s.must(ctx, "kubectl", "apply", "-f", "demo/shop/app.yaml"); err != nil {
		return err
	}
	for _, ns := range shop.Namespaces {
		if _, err := s.Run(ctx, "kubectl", "-n", ns, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=60s"); err != nil {
			return err
		}
	}
	if err := shop.AwaitOpen(ctx, s.Shell, s.cluster, s.probe.Program); err != nil {
		return err
	}
	return s.showTable(ctx)
}

func (s *story) showTable(ctx context.Context) error {
	pods, err := shop.Find(ctx, s.Shell)
	if err != nil {
		return err
	}
	r, err := shop.Measure(ctx, s.Shell, s.cluster, s.probe.Program, pods)
	if err != nil {
		return err
	}
	printTable(pods, r)
	return nil
}

func (s *story) install(ctx context.Context) error {
	heading(3, "tierwall, installed with Helm and its default values")
	if err := s.must(ctx, "helm", "install", "tierwall", "charts/tierwall", "-n", "tierwall-system", "--create-namespace"); err != nil {
		return err
	}
	for _, workload := range []string{"deployment/tierwall-webhook", "daemonset/tierwall-enforcer"} {
		if err := s.must(ctx, "kubectl", "-n", "tierwall-system", "rollout", "status", workload, "--timeout=90s"); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) isolate(ctx context.Context) error {
	heading(4, "Roles, and policies that speak of them: front end to back end to data, and nothing else")
	for _, file := range []string{"demo/shop/roles.yaml", "demo/shop/policies.yaml"} {
		if err := s.must(ctx, "kubectl", "apply", "-f", file); err != nil {
			return err
		}
	}
	if err := s.awaitRoles(ctx); err != nil {
		return err
	}
	if err := s.must(ctx, "kubectl", "-n", "prod", "get", "pods", "-L", "tierwall.io/tier-role"); err != nil {
		return err
	}
	return s.showTable(ctx)
}

// awaitRoles waits until the pods that were there before show their roles.
func (s *story) awaitRoles(ctx context.Context) error {
	for _, ns := range shop.Namespaces {
		for _, t := range shop.Tiers {
			_, err := s.Run(ctx, "kubectl", "-n", ns, "wait", "pod", "-l", "app="+t.Name,
				`--for=jsonpath={.metadata.labels.tierwall\.io/tier-role}=`+t.Name, "--timeout=30s")
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *story) mistakes(ctx context.Context) error {
	heading(5, "Policies that open the data tier are refused, by what they would let reach what")
	return errors.Join(
		s.refused(ctx, "Guardrail data-tier-closed", "kubectl", "apply", "-f", "demo/changes/open-data-to-test.yaml"),
		s.refused(ctx, "Guardrail data-tier-closed", "kubectl", "apply", "-f", "demo/changes/open-data-to-world.yaml"))
}

// soundChange measures, with a new connection every millisecond, how soon a
// change is in force.
func (s *story) soundChange(ctx context.Context) error {
	heading(6, "A sound policy is admitted, and in force at once")
	pods, err := shop.Find(ctx, s.Shell)
	if err != nil {
		return err
	}
	from, to := pods[1], pods[0] // prod/backend, prod/frontend
	probe := s.Command(ctx, "kubectl", "-n", from.Namespace, "exec", from.Pod, "--",
		"/probe", "watch", "-timeout", "500ms", "-for", "20s", to.Targets()[0])
	lines, err := probe.StdoutPipe()
	if err != nil {
		return err
	}
	if err := probe.Start(); err != nil {
		return err
	}
	defer func() { _ = probe.Process.Kill(); _ = probe.Wait() }()
	time.Sleep(time.Second) // let the probe be seen to fail first
	_, returned, err := s.show(ctx, "kubectl", "apply", "-f", "demo/changes/backend-callback.yaml")
	if err != nil {
		return err
	}
	first, ok := shop.FirstReached(lines)
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

func (s *story) forgeries(ctx context.Context) error {
	heading(7, "Forged roles get nowhere")
	if err := s.must(ctx, "kubectl", "apply", "-f", "demo/changes/forged.yaml"); err != nil {
		return err
	}
	if _, err := s.Run(ctx, "kubectl", "-n", "prod", "wait", "pod/intruder", "--for=condition=Ready", "--timeout=30s"); err != nil {
		return err
	}
	if err := s.must(ctx, "kubectl", "-n", "prod", "get", "pod", "intruder", "-L", "tierwall.io/tier-role"); err != nil {
		return err
	}
	pods, err := shop.Find(ctx, s.Shell)
	if err != nil {
		return err
	}
	data := pods[2]
	text, err := s.Run(ctx, append([]string{"kubectl", "-n", "prod", "exec", "intruder", "--", "/probe", "reach", "-timeout", "700ms"}, data.Targets()...)...)
	if err != nil {
		return err
	}
	for a := range shop.Attempts(strings.NewReader(text)) {
		if a.Reached {
			return fmt.Errorf("the intruder reached %s", a.Target)
		}
		say("the intruder tries %s: %s", a.Target, faint("no answer"))
	}
	return s.refused(ctx, "tierwall.io/tier-role", "kubectl", "-n", "test", "label", "pod", pods[3].Pod, "--overwrite", "tierwall.io/tier-role=data")
}

// chains shows how the kernel enforces it, for the data tier of prod.
func (s *story) chains(ctx context.Context) error {
	heading(8, "How the kernel enforces it: the way to a pod of the data tier")
	pods, err := shop.Find(ctx, s.Shell)
	if err != nil {
		return err
	}
	name, err := s.Run(ctx, "kubectl", "-n", "prod", "get", "pod", pods[2].Pod, "-o", "jsonpath={.spec.nodeName}")
	if err != nil {
		return err
	}
	for _, node := range s.cluster.Nodes() {
		if node.Name != name {
			continue
		}
		rules, err := node.Exec(ctx, "iptables", "-S")
		if err != nil {
			return err
		}
		say("%s", faint("on "+name+", iptables -S, the chains that a packet to "+pods[2].Addrs[0]+" can enter"))
		fmt.Println(strings.TrimRight(pathTo(rules, pods[2].Addrs[0]), "\n"))
	}
	return nil
}

func (s *story) farewell() {
	heading(9, fmt.Sprintf("That was all, in %.0f s. The cluster is still up", time.Since(s.start).Seconds()))
	fmt.Printf(`
   look around     export KUBECONFIG=%s PATH=%s:$PATH
                   kubectl get guardrails,tierroles,networkpolicies -A
                   kubectl -n tierwall-system logs daemonset/tierwall-enforcer
   on a node       go run ./test/cluster/lab exec %s -- iptables -S TIERWALL-FORWARD
   take it down    make demo-down
`, s.cluster.Kubeconfig(), s.Path(), s.cluster.Nodes()[0].Name)
}
