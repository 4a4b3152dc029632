package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/internal/flags"
	"github.com/tierwall/tierwall/internal/unenforced"
	"github.com/tierwall/tierwall/internal/version"
	"github.com/tierwall/tierwall/policy"
)

// source is the flags that say what exists: nothing, or a live cluster.
type source struct {
	cluster             bool
	kubeconfig, context string
	namespace           string
	podCIDRs            []string
	timeout             time.Duration
	defaults            flags.Defaults
}

func (s *source) addTo(fs *pflag.FlagSet) {
	fs.BoolVar(&s.cluster, "cluster", false, "the cluster that exists is the live one, by the usual kubeconfig, and not an empty one")
	fs.StringVar(&s.kubeconfig, "kubeconfig", "", "the kubeconfig `FILE`; implies --cluster")
	fs.StringVar(&s.context, "context", "", "the kubeconfig's context `NAME`; implies --cluster")
	fs.StringVarP(&s.namespace, "namespace", "n", "", "the namespace of what names none (default that of the context, or \"default\")")
	fs.StringSliceVar(&s.podCIDRs, "pod-cidr", nil, "the `NETWORK` that pods have addresses of, where no node says so; may be repeated")
	fs.DurationVar(&s.timeout, "timeout", time.Minute, "how long all may take")
	s.defaults.AddTo(fs)
}

// existing is what exists, and what else is to be known of it.
type existing struct {
	state     state.State
	defaults  policy.Defaults
	namespace string
	live      bool
	// unenforced are the cluster's policies that other engines enforce.
	unenforced []unenforced.Count
}

// exists is the state of the cluster that the flags say.
func (s *source) exists(ctx context.Context, notes io.Writer) (existing, error) {
	defaults, err := s.defaults.Parse()
	if err != nil {
		return existing{}, err
	}
	out := existing{defaults: defaults, namespace: s.namespace, live: s.cluster || s.kubeconfig != "" || s.context != ""}
	if out.live {
		config, namespace, err := s.config()
		if err != nil {
			return existing{}, err
		}
		if out.namespace == "" {
			out.namespace = namespace
		}
		var missing []string
		if out.state, missing, err = state.Live(ctx, config); err != nil {
			return existing{}, err
		}
		if out.unenforced, err = state.CountUnenforced(ctx, config); err != nil {
			fmt.Fprintf(notes, "note: policies of other engines could not be counted: %v\n", err)
		}
		for _, kind := range missing {
			fmt.Fprintf(notes, "note: the cluster does not serve %s, or you may not list it\n", kind)
		}
	}
	if out.namespace == "" {
		out.namespace = metav1.NamespaceDefault
	}
	if out.state, err = s.withPodNetworks(out.state); err != nil {
		return existing{}, err
	}
	return out, nil
}

// config is how to reach the cluster, and the namespace of the context.
func (s *source) config() (*rest.Config, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = s.kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: s.context})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("find the cluster: %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("find the namespace: %w", err)
	}
	config.QPS, config.Burst = 50, 100
	config.UserAgent = "tierwall/" + version.Version
	return config, namespace, nil
}

// withPodNetworks adds a node whose pods have addresses of the networks.
func (s *source) withPodNetworks(st state.State) (state.State, error) {
	if len(s.podCIDRs) == 0 {
		return st, nil
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "pod-cidr"}}
	for _, text := range s.podCIDRs {
		if _, err := netip.ParsePrefix(text); err != nil {
			return st, fmt.Errorf("--pod-cidr: %w", err)
		}
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, text)
	}
	return st.With(map[state.Key]client.Object{state.KeyOf("Node", node): node}), nil
}

// applied is the state when the objects are applied to it.
func applied(s state.State, objects []*manifest.Object) state.State {
	values := map[state.Key]client.Object{}
	for _, o := range objects {
		if o.Value != nil {
			values[state.KeyOf(o.Kind, o.Value)] = o.Value
		}
		if o.Context != nil {
			values[state.KeyOf(o.Kind, o.Context)] = o.Context
		}
	}
	return s.With(values)
}
