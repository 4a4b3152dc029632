package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/internal/unenforced"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// podlessKinds are widely used custom kinds whose objects lead to no pods. Others may, as the labels of
// pods that an operator makes are not in the manifests.
var podlessKinds = map[string][]string{
	"monitoring.coreos.com":     {"ServiceMonitor", "PodMonitor", "PrometheusRule", "Probe", "ScrapeConfig", "AlertmanagerConfig"},
	"cert-manager.io":           {"Certificate", "CertificateRequest", "Issuer", "ClusterIssuer"},
	"gateway.networking.k8s.io": {"GatewayClass", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "ReferenceGrant", "BackendTLSPolicy"},
	"networking.istio.io":       {"VirtualService", "DestinationRule", "ServiceEntry", "Sidecar", "EnvoyFilter"},
	"security.istio.io":         {"AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"},
	"external-secrets.io":       {"ExternalSecret", "SecretStore", "ClusterSecretStore"},
	"bitnami.com":               {"SealedSecret"},
}

// builtinSuffixes end the API groups of Kubernetes itself that have a dot.
var builtinSuffixes = []string{".k8s.io", ".kubernetes.io"}

// mayMakePods reports whether an operator may make pods of an object, of whose kind nothing is known.
func mayMakePods(o *manifest.Object) bool {
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil || o.Value != nil || o.Context != nil || o.Name == "" || !strings.Contains(gv.Group, ".") {
		return false
	}
	isBuiltin := slices.ContainsFunc(builtinSuffixes, func(s string) bool { return strings.HasSuffix(gv.Group, s) }) &&
		podlessKinds[gv.Group] == nil
	return !isBuiltin && gv.Group != "tierwall.io" && !unenforced.IsPolicy(gv.Group, o.Kind) &&
		!slices.Contains(podlessKinds[gv.Group], o.Kind)
}

// withoutUnknownPods removes from a policy's lint the selectors that may match pods that an operator makes, or pods of
// a namespace whose labels are not known, and returns a note for each of them.
func (r *run) withoutUnknownPods(o *manifest.Object, l effect.Lint, s *compile.Snapshot) (effect.Lint, []manifest.Error) {
	var notes []manifest.Error
	mayMatch := func(in subject, field, message string) bool {
		which := ""
		if i := slices.IndexFunc(r.operatorObjects, func(c *manifest.Object) bool { return in.mayReach(c.Namespace, s) }); i >= 0 {
			which = "pods that an operator makes, such as of " + r.operatorObjects[i].ID()
		} else if pod := podOfUnknownNamespace(in, s); pod != nil {
			which = fmt.Sprintf("pods such as %s/%s: the labels of namespace %s are not known without its Namespace", pod.Namespace, pod.Name, pod.Namespace)
		} else {
			return false
		}
		notes = append(notes, manifest.Error{File: o.File, Line: o.Line(field), Object: o.ID(), Field: field, Message: fmt.Sprintf(message, which)})
		return true
	}
	if l.SelectsNothing {
		field := "/spec/podSelector"
		if o.Kind == "ClusterNetworkPolicy" {
			field = "/spec/subject"
		}
		l.SelectsNothing = !mayMatch(subjectOf(o), field, "selects no pod of the manifests, but may select %s")
	}
	l.DeadPeers = filter(l.DeadPeers, func(ref effect.Ref) bool {
		peer, ok := peerAt(o, ref.Rule)
		return !ok || !mayMatch(peer, ref.Rule, "matches no pod of the manifests, but may match %s")
	})
	return l, notes
}

// podOfUnknownNamespace returns a pod that the subject matches if its namespace has some labels; no Namespace tells
// which it has, but for its name.
func podOfUnknownNamespace(in subject, s *compile.Snapshot) *compile.Pod {
	if in.namespace != "" || in.namespaces == nil {
		return nil
	}
	requirements, _ := in.namespaces.Requirements()
	for _, p := range s.Pods {
		known := slices.ContainsFunc(s.Namespaces, func(n *compile.Namespace) bool { return n.Name == p.Namespace })
		contradicts := slices.ContainsFunc(requirements, func(q labels.Requirement) bool {
			return q.Key() == corev1.LabelMetadataName && !q.Matches(namespaceSet(p.Namespace, nil))
		})
		if !known && !contradicts && in.pods.Matches(labels.Set(p.Labels)) {
			return p
		}
	}
	return nil
}

// mayReach reports whether the subject covers pods of a namespace; "" is an object's that names none.
func (s subject) mayReach(namespace string, snapshot *compile.Snapshot) bool {
	if namespace == "" || s.namespace != "" {
		return namespace == "" || s.namespace == namespace
	}
	i := slices.IndexFunc(snapshot.Namespaces, func(n *compile.Namespace) bool { return n.Name == namespace })
	if i < 0 {
		return s.namespaces.Matches(namespaceSet(namespace, nil))
	}
	return s.namespaces.Matches(namespaceSet(namespace, snapshot.Namespaces[i].Labels))
}

// peerAt returns the pods that a policy's peer at a JSON pointer such as /spec/ingress/0/from/1 selects by labels.
func peerAt(o *manifest.Object, pointer string) (subject, bool) {
	spec, ok := specOf(o)
	if !ok {
		return subject{}, false
	}
	for r := range spec.Rules() {
		if !strings.HasPrefix(pointer, r.Field()+"/") {
			continue
		}
		for i, p := range r.Peers() {
			if at := r.PeerField(i); pointer == at || strings.HasPrefix(pointer, at+"/") {
				if s, ok := p.Selectors.First(); ok {
					return newSubject(s), true
				}
			}
		}
	}
	return subject{}, false
}

// compareNotes orders notes by their place.
func compareNotes(a, b manifest.Error) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Field, b.Field))
}
