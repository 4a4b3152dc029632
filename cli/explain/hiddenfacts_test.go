package explain_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cli/explain"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

// hiddenWorld is workloads of which some facts are hidden, and policies that depend on these facts.
type hiddenWorld struct {
	r          *rand.Rand
	namespaces []*corev1.Namespace
	workloads  []hiddenWorkload
	service    *corev1.Service
	policies   []*networkingv1.NetworkPolicy
	defaults   policy.Defaults
	networks   explain.Networks
	// hiddenNamespaces are those whose labels are hidden.
	hiddenNamespaces map[string]bool
	hiddenService    bool
}

type hiddenWorkload struct {
	namespace, name, kind string
	replicas              int
	labels                map[string]string
	port                  int32
	hidden                bool
}

const serviceIP = "10.96.0.7"

var hiddenValues = map[string][]string{
	"env": {"prod", "test"}, "team": {"a", "b"}, "app": {"web", "api", "db"}, "pod-template-hash": {"5d8f7c", "6c9d4"},
	"batch.kubernetes.io/job-name": {"web", "api"}, "statefulset.kubernetes.io/pod-name": {"db-0", "web-0"}, "role": {"primary", "replica"},
}

func choose[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func newHiddenWorld(seed uint64, hide bool) *hiddenWorld {
	r := generate.NewRand(seed)
	w := &hiddenWorld{r: r, hiddenNamespaces: map[string]bool{}, defaults: policy.Defaults{Action: choose(r, policy.Allow, policy.Deny)}}
	for _, name := range []string{"one", "two"} {
		w.namespaces = append(w.namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: w.namespaceLabels()}})
		w.hiddenNamespaces[name] = hide && r.IntN(3) == 0
	}
	for _, ns := range []string{"one", "two"} {
		for _, app := range hiddenValues["app"] {
			kind := choose(r, "Deployment", "StatefulSet", "Job")
			replicas := 1
			if kind == "StatefulSet" {
				replicas = 1 + r.IntN(2)
			}
			w.workloads = append(w.workloads, hiddenWorkload{namespace: ns, name: app, kind: kind, replicas: replicas,
				labels: map[string]string{"app": app}, port: choose(r, int32(80), 8080), hidden: hide && r.IntN(2) == 0})
		}
	}
	w.service = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "one", Name: "api"}, Spec: corev1.ServiceSpec{ClusterIP: serviceIP,
		Selector: map[string]string{"app": "api"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("main")}}}}
	w.hiddenService = hide && r.IntN(3) == 0
	for i := range 1 + r.IntN(5) {
		w.policies = append(w.policies, w.policy(i))
	}
	if r.IntN(2) == 0 {
		w.networks.Pods = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	}
	return w
}

func (w *hiddenWorld) namespaceLabels() map[string]string {
	out := map[string]string{}
	for _, key := range []string{"env", "team"} {
		if value := choose(w.r, append(hiddenValues[key], "other", "")...); value != "" {
			out[key] = value
		}
	}
	return out
}

func (w *hiddenWorld) selector(keys ...string) *metav1.LabelSelector {
	out := &metav1.LabelSelector{}
	for range w.r.IntN(3) {
		key := choose(w.r, keys...)
		values := hiddenValues[key]
		switch w.r.IntN(4) {
		case 0:
			out.MatchExpressions = append(out.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: choose(w.r, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn), Values: []string{choose(w.r, values...)}})
		case 1:
			out.MatchExpressions = append(out.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: choose(w.r, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)})
		default:
			out.MatchLabels = map[string]string{key: choose(w.r, values...)}
		}
	}
	return out
}

func (w *hiddenWorld) podSelector() *metav1.LabelSelector {
	return w.selector("app", "app", "app", "pod-template-hash", "batch.kubernetes.io/job-name", "statefulset.kubernetes.io/pod-name", "role")
}

func (w *hiddenWorld) peers() []networkingv1.NetworkPolicyPeer {
	var out []networkingv1.NetworkPolicyPeer
	for range w.r.IntN(3) {
		var p networkingv1.NetworkPolicyPeer
		switch w.r.IntN(4) {
		case 0:
			p.PodSelector = w.podSelector()
		case 1:
			p.NamespaceSelector = w.selector("env", "team")
		case 2:
			p.NamespaceSelector, p.PodSelector = w.selector("env", "team"), w.podSelector()
		default:
			p.IPBlock = choose(w.r, &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8"}}, &networkingv1.IPBlock{CIDR: "10.244.0.0/16"},
				&networkingv1.IPBlock{CIDR: "10.244.0.0/17"}, &networkingv1.IPBlock{CIDR: "0.0.0.0/0"}, &networkingv1.IPBlock{CIDR: "203.0.113.0/24"})
		}
		out = append(out, p)
	}
	return out
}

func (w *hiddenWorld) ports() []networkingv1.NetworkPolicyPort {
	main, number := intstr.FromString("main"), intstr.FromInt32(80)
	return choose(w.r, nil, []networkingv1.NetworkPolicyPort{{Port: &main}}, []networkingv1.NetworkPolicyPort{{Port: &number}})
}

func (w *hiddenWorld) policy(i int) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: choose(w.r, "one", "two"), Name: fmt.Sprintf("p%d", i)}}
	np.Spec.PodSelector = *w.podSelector()
	np.Spec.PolicyTypes = choose(w.r, []networkingv1.PolicyType{"Ingress"}, []networkingv1.PolicyType{"Egress"}, []networkingv1.PolicyType{"Ingress", "Egress"})
	for range w.r.IntN(3) {
		if slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
			np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: w.peers(), Ports: w.ports()})
		}
		if slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
			np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: w.peers(), Ports: w.ports()})
		}
	}
	return np
}

func (l hiddenWorkload) key() string { return l.namespace + "/" + l.name }

func (l hiddenWorkload) template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l.labels}, Spec: corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{
		{Name: "c", Ports: []corev1.ContainerPort{{Name: "main", ContainerPort: l.port, Protocol: corev1.ProtocolTCP}}}}}}
}

// manifest is the workload as a folder has it.
func (l hiddenWorkload) manifest() client.Object {
	meta := metav1.ObjectMeta{Namespace: l.namespace, Name: l.name}
	selector, n := &metav1.LabelSelector{MatchLabels: l.labels}, int32(l.replicas)
	switch l.kind {
	case "Deployment":
		return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: &n, Selector: selector, Template: l.template()}}
	case "StatefulSet":
		return &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: &n, Selector: selector, Template: l.template()}}
	default:
		return &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: l.template()}}
	}
}

// podsOf returns pods of the workload with addresses and labels at random, as a cluster could have them.
func (w *hiddenWorld) podsOf(l hiddenWorkload, taken map[netip.Addr]bool) []*corev1.Pod {
	var out []*corev1.Pod
	for i := range l.replicas {
		t := l.template()
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: fmt.Sprintf("%s-%d", l.name, i), Labels: maps.Clone(l.labels)}, Spec: t.Spec}
		switch l.kind {
		case "Deployment":
			p.Labels["pod-template-hash"] = choose(w.r, append(hiddenValues["pod-template-hash"], "7f6b5")...)
		case "StatefulSet":
			p.Labels["statefulset.kubernetes.io/pod-name"] = fmt.Sprintf("%s-%d", l.name, i)
			p.Labels["apps.kubernetes.io/pod-index"] = fmt.Sprint(i)
			if role := choose(w.r, "primary", "replica", "", ""); role != "" && w.isAsked("role", role) {
				p.Labels["role"] = role
			}
		default:
			p.Labels["job-name"], p.Labels["batch.kubernetes.io/job-name"] = l.name, l.name
		}
		p.OwnerReferences = []metav1.OwnerReference{{Kind: l.kind, Name: l.name, APIVersion: "v1"}}
		a := w.address()
		for taken[a] {
			a = w.address()
		}
		taken[a] = true
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: a.String(), PodIPs: []corev1.PodIP{{IP: a.String()}}}
		out = append(out, p)
	}
	return out
}

// isAsked reports whether a policy asks for the value in a way that tells who may set it.
func (w *hiddenWorld) isAsked(key, value string) bool {
	for _, s := range state.PodSelectors(&compile.Snapshot{NetworkPolicies: w.policies}) {
		if s.Selector.MatchLabels[key] == value {
			return true
		}
		for _, e := range s.Selector.MatchExpressions {
			if e.Key == key && slices.Contains(e.Values, value) {
				return true
			}
		}
	}
	return false
}

func (w *hiddenWorld) address() netip.Addr {
	base := netip.MustParsePrefix("10.244.0.0/16").Addr().As4()
	if len(w.networks.Pods) == 0 && w.r.IntN(2) == 0 {
		base = choose(w.r, [4]byte{10, 9, 0, 0}, [4]byte{203, 0, 113, 0}, [4]byte{192, 168, 5, 0})
		base[3] = byte(1 + w.r.IntN(250))
		return netip.AddrFrom4(base)
	}
	base[2], base[3] = byte(w.r.IntN(256)), byte(1+w.r.IntN(250))
	return netip.AddrFrom4(base)
}

// completion is a cluster that agrees with all that is not hidden.
func (w *hiddenWorld) completion(known map[string][]*corev1.Pod) (*oracle.Cluster, map[string][]*corev1.Pod) {
	c := &oracle.Cluster{NetworkPolicies: w.policies, Defaults: w.defaults}
	for _, n := range w.namespaces {
		if w.hiddenNamespaces[n.Name] {
			n = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: w.namespaceLabels()}}
		}
		c.Namespaces = append(c.Namespaces, n)
	}
	pods, taken := map[string][]*corev1.Pod{}, map[netip.Addr]bool{}
	for _, all := range known {
		for _, p := range all {
			taken[netip.MustParseAddr(p.Status.PodIP)] = true
		}
	}
	for _, l := range w.workloads {
		pods[l.key()] = known[l.key()]
		if l.hidden || known[l.key()] == nil {
			pods[l.key()] = w.podsOf(l, taken)
		}
		c.Pods = append(c.Pods, pods[l.key()]...)
	}
	return c, pods
}

// facts are what is left when the hidden facts are taken away.
func (w *hiddenWorld) facts(known map[string][]*corev1.Pod) *explain.Facts {
	objects := map[state.Key]client.Object{}
	add := func(kind string, o client.Object) { objects[state.KeyOf(kind, o)] = o }
	for _, n := range w.namespaces {
		if !w.hiddenNamespaces[n.Name] {
			add("Namespace", n)
		}
	}
	for _, l := range w.workloads {
		if l.hidden {
			add(l.kind, l.manifest())
			continue
		}
		for _, p := range known[l.key()] {
			add("Pod", p)
		}
	}
	if !w.hiddenService {
		add("Service", w.service)
	}
	for _, np := range w.policies {
		add("NetworkPolicy", np)
	}
	return explain.NewFacts(state.State{}.With(objects), w.defaults, w.networks, false)
}

// hiddenQuestion is a workload that asks for another one, or for the Service by its address.
type hiddenQuestion struct {
	from, to hiddenWorkload
	service  bool
	port     int32
}

func (w *hiddenWorld) question() hiddenQuestion {
	q := hiddenQuestion{from: choose(w.r, w.workloads...), to: choose(w.r, w.workloads...), port: choose(w.r, int32(80), 8080)}
	if w.r.IntN(4) == 0 {
		q.service, q.port = true, 80
		q.to = w.workloads[1] // what the Service selects
	}
	return q
}

func (q hiddenQuestion) ask(t *testing.T, f *explain.Facts) explain.Result {
	t.Helper()
	name := func(l hiddenWorkload) string {
		if !l.hidden {
			return l.key() + "-0"
		}
		return l.namespace + "/" + strings.ToLower(l.kind) + "/" + l.name
	}
	if q.service {
		return question(t, f, name(q.from), serviceIP, fmt.Sprint(q.port))
	}
	return question(t, f, name(q.from), name(q.to), fmt.Sprint(q.port))
}

// asked are the pods of a side: all that a workload has, or the one that was asked about.
func (q hiddenQuestion) asked(l hiddenWorkload, pods []*corev1.Pod, service bool) []*corev1.Pod {
	if l.hidden || service {
		return pods
	}
	return pods[:1]
}

// verdicts are those of the oracle on all pods of both sides.
func (q hiddenQuestion) verdicts(c *oracle.Cluster, pods map[string][]*corev1.Pod) map[string]bool {
	out := map[string]bool{}
	for _, a := range q.asked(q.from, pods[q.from.key()], false) {
		for _, b := range q.asked(q.to, pods[q.to.key()], q.service) {
			f := policy.Flow{Source: netip.MustParseAddr(a.Status.PodIP), Destination: netip.MustParseAddr(b.Status.PodIP), Protocol: policy.TCP, DestinationPort: uint16(q.port)}
			if q.service {
				f.DestinationPort = uint16(q.to.port)
			}
			verdict := oracle.Decide(c, f)
			if a == b && q.service {
				verdict, _ = oracle.ToItself(c, f)
			}
			out[said(verdict)] = true
		}
	}
	return out
}

// Where facts are hidden, an answer that is certain holds however they turn out, and one that is unknown
// names a fact that was hidden. Where nothing is hidden, nothing is unknown.
func TestAnswersWithHiddenFacts(t *testing.T) {
	asked := map[string]int{}
	for seed := uint64(1); seed <= 250; seed++ {
		hide := seed%5 != 0
		w := newHiddenWorld(seed, hide)
		_, known := w.completion(nil)
		facts := w.facts(known)
		for range 6 {
			q := w.question()
			if !q.service && q.from.key() == q.to.key() {
				continue
			}
			result := q.ask(t, facts)
			asked[result.Verdict]++
			switch result.Verdict {
			case "allowed", "denied":
				for range 12 {
					c, pods := w.completion(known)
					if got := q.verdicts(c, pods); !got[result.Verdict] || len(got) != 1 {
						t.Fatalf("seed %d: %s > %s %d (Service: %v): %s for certain, and %v in a cluster that agrees with all that is known\n%+v\n%s",
							seed, q.from.key(), q.to.key(), q.port, q.service, result.Verdict, slices.Sorted(maps.Keys(got)), result.Answers, describe(w, c))
					}
				}
			case "unknown":
				if !hide {
					t.Fatalf("seed %d: %s > %s %d (Service: %v): unknown, and nothing is hidden: %+v", seed, q.from.key(), q.to.key(), q.port, q.service, result.Answers)
				}
				for _, a := range result.Answers {
					for i, u := range a.Because { // of too many combinations the first facts are told
						if !w.hides(u.Fact, q) && (i == 0 || !strings.Contains(u.Fact, "too many combinations")) {
							t.Fatalf("seed %d: %s > %s %d: unknown because of %q, which is not hidden", seed, q.from.key(), q.to.key(), q.port, u.Fact)
						}
					}
				}
			}
		}
	}
	if asked["allowed"] < 100 || asked["denied"] < 100 || asked["unknown"] < 40 {
		t.Errorf("asked %v: too few to mean something", asked)
	}
	t.Log(asked)
}

// hides reports whether the fact is one that was hidden.
func (w *hiddenWorld) hides(fact string, q hiddenQuestion) bool {
	for _, l := range []hiddenWorkload{q.from, q.to} {
		if l.hidden && strings.Contains(fact, l.namespace+"/"+strings.ToLower(l.kind)+"/"+l.name) {
			return true
		}
		if w.hiddenNamespaces[l.namespace] && strings.HasSuffix(fact, "of namespace "+l.namespace) {
			return true
		}
	}
	return w.hiddenService && strings.Contains(fact, serviceIP)
}

func describe(w *hiddenWorld, c *oracle.Cluster) string {
	var b strings.Builder
	for _, n := range c.Namespaces {
		fmt.Fprintf(&b, "namespace %s %v hidden %v\n", n.Name, n.Labels, w.hiddenNamespaces[n.Name])
	}
	for _, p := range c.Pods {
		fmt.Fprintf(&b, "pod %s/%s %v %s\n", p.Namespace, p.Name, p.Labels, p.Status.PodIP)
	}
	for _, np := range w.policies {
		fmt.Fprintf(&b, "policy %s/%s %+v\n", np.Namespace, np.Name, np.Spec)
	}
	return b.String()
}
