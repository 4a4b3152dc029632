package effect_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/yaml"

	"github.com/tierwall/tierwall/api/v1alpha1"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/effect"
)

// shopCluster returns three tiers in each of prod and test, and DNS.
func shopCluster() *compile.Snapshot {
	s := &compile.Snapshot{
		Namespaces: []*compile.Namespace{
			{Name: "prod", Labels: map[string]string{"environment": "prod", "team": "shop"}},
			{Name: "test", Labels: map[string]string{"environment": "test", "team": "shop"}},
			{Name: "kube-system"},
		},
		Nodes: []*compile.Node{{Name: "n1", Addrs: parseAddrs("192.0.2.1"), PodCIDRs: parsePrefixes("10.244.0.0/24", "fd00:10:244::/64")}},
		TierRoles: []*v1alpha1.TierRole{
			tierRole("frontend", "web"), tierRole("backend", "api"), tierRole("data", "db"),
		},
		Defaults: policy.Defaults{Exempt: []string{"kube-system"}},
	}
	for i, ns := range []string{"prod", "test"} {
		s.Pods = append(s.Pods,
			newPod(ns, "web-1", "web", fmt.Sprintf("10.244.0.1%d", i)), newPod(ns, "web-2", "web", fmt.Sprintf("10.244.0.2%d", i)),
			newPod(ns, "api-1", "api", fmt.Sprintf("10.244.0.3%d", i)),
			newPod(ns, "db-1", "db", fmt.Sprintf("10.244.0.4%d", i), compile.NamedPort{Name: "pg", Protocol: policy.TCP, Port: 5432}))
	}
	dns := newPod("kube-system", "dns-1", "dns", "10.244.0.5")
	dns.Labels = map[string]string{"k8s-app": "kube-dns"}
	s.Pods = append(s.Pods, dns)
	return s
}

func tierRole(name, account string) *v1alpha1.TierRole {
	return &v1alpha1.TierRole{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.TierRoleSpec{Role: name, Namespaces: []string{"prod", "test"}, ServiceAccounts: []string{account}}}
}

func newPod(ns, name, account, addr string, ports ...compile.NamedPort) *compile.Pod {
	return &compile.Pod{Namespace: ns, Name: name, Node: "n1", ServiceAccount: account,
		Labels: map[string]string{"app": account, "pod": name}, Addrs: parseAddrs(addr), Ports: ports}
}

func parseAddrs(texts ...string) (out []netip.Addr) {
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func parsePrefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// withPolicies returns the snapshot with further policies, each given as namespace, name and spec in YAML.
func withPolicies(s *compile.Snapshot, policies ...[3]string) *compile.Snapshot {
	out := *s
	out.NetworkPolicies = slices.Clone(s.NetworkPolicies)
	for _, p := range policies {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: p[0], Name: p[1]}}
		if err := yaml.UnmarshalStrict([]byte(p[2]), &np.Spec); err != nil {
			panic(err)
		}
		out.NetworkPolicies = append(out.NetworkPolicies, np)
	}
	return &out
}

func rowLines(rows []effect.Row) string {
	var out []string
	for _, r := range rows {
		line := fmt.Sprintf("%s %s -> %s %s", r.Direction, peerText(r.From), peerText(r.To), strings.Join(r.Ports, ","))
		if r.Blocked {
			line += " blocked"
		} else if r.Potential {
			line += " potential"
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func peerText(p effect.Peer) string {
	if p.Kind == effect.CIDR {
		text := p.Name
		if len(p.Except) > 0 {
			text += fmt.Sprintf("except%v", p.Except)
		}
		return text
	}
	namespace := p.Namespace
	if namespace == "" {
		namespace = fmt.Sprintf("any%v", p.NamespaceLabels)
	}
	if p.Pods == 0 {
		namespace = "(" + namespace + ")"
	}
	return namespace + "/" + p.Role
}

func wantRows(t *testing.T, got []effect.Row, want string) {
	t.Helper()
	var wanted []string
	for _, l := range strings.Split(strings.TrimSpace(want), "\n") {
		if l = strings.TrimSpace(l); l != "" {
			wanted = append(wanted, l)
		}
	}
	slices.Sort(wanted)
	if rowLines(got) != strings.Join(wanted, "\n") {
		t.Errorf("rows:\n%s\nwant:\n%s", rowLines(got), strings.Join(wanted, "\n"))
	}
}

const dataFromBackend = `
podSelector: {matchLabels: {tierwall.io/tier-role: data}}
ingress: [{from: [{podSelector: {matchLabels: {tierwall.io/tier-role: backend}}}], ports: [{port: 5432}]}]`

func TestPolicyBetweenTwoRoles(t *testing.T) {
	e := effect.Compute(t.Context(), shopCluster(), withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend}))
	if !e.Complete || e.Truncated {
		t.Fatalf("complete %v (%v), truncated %v", e.Complete, e.Incomplete, e.Truncated)
	}
	wantRows(t, e.Added, `ingress prod/backend -> prod/data TCP/5432 blocked`)
	wantRows(t, e.Removed, "")
	if got := fmt.Sprint(e.Roles.Added); got != "map[backend:map[data:[TCP/5432]]]" {
		t.Errorf("roles: %s", got)
	}
	if len(e.NewlyIsolated) != 1 || e.NewlyIsolated[0].Subject.Role != "data" || e.NewlyIsolated[0].Direction != effect.Ingress {
		t.Errorf("newly isolated: %+v", e.NewlyIsolated)
	}
	row := e.Added[0]
	if row.From.Name != "api-1" || row.From.NamespaceLabels["environment"] != "prod" || row.From.Pods != 1 ||
		row.To.Labels[v1alpha1.RoleLabel] != "data" || row.Via[0] != (effect.Ref{Policy: "NetworkPolicy prod/data", Rule: "/spec/ingress/0"}) {
		t.Errorf("row: %+v", row)
	}
}

func TestOpeningDataToTest(t *testing.T) {
	e := effect.Compute(t.Context(), shopCluster(), withPolicies(shopCluster(), [3]string{"prod", "open", `
podSelector: {matchLabels: {app: db}}
ingress: [{from: [{namespaceSelector: {matchLabels: {environment: test}}}], ports: [{port: pg}]}]`}))
	// Pods of any service account may have app=db, with any number for their port pg. Other namespaces may have the
	// label.
	wantRows(t, e.Added, `
ingress test/frontend -> prod/data TCP/5432 blocked
ingress test/backend -> prod/data TCP/5432 blocked
ingress test/data -> prod/data TCP/5432 blocked
ingress (test)/ -> prod/data TCP/5432 blocked
ingress (anymap[environment:test])/ -> prod/data TCP/5432 blocked
ingress test/frontend -> (prod)/frontend TCP/pg blocked
ingress test/backend -> (prod)/frontend TCP/pg blocked
ingress test/data -> (prod)/frontend TCP/pg blocked
ingress (test)/ -> (prod)/frontend TCP/pg blocked
ingress (anymap[environment:test])/ -> (prod)/frontend TCP/pg blocked
ingress test/frontend -> (prod)/backend TCP/pg blocked
ingress test/backend -> (prod)/backend TCP/pg blocked
ingress test/data -> (prod)/backend TCP/pg blocked
ingress (test)/ -> (prod)/backend TCP/pg blocked
ingress (anymap[environment:test])/ -> (prod)/backend TCP/pg blocked
ingress test/frontend -> (prod)/ TCP/pg blocked
ingress test/backend -> (prod)/ TCP/pg blocked
ingress test/data -> (prod)/ TCP/pg blocked
ingress (test)/ -> (prod)/ TCP/pg blocked
ingress (anymap[environment:test])/ -> (prod)/ TCP/pg blocked
`)
}

func TestOpeningDataToTheWorld(t *testing.T) {
	e := effect.Compute(t.Context(), shopCluster(), withPolicies(shopCluster(), [3]string{"prod", "open", `
podSelector: {matchLabels: {tierwall.io/tier-role: data}}
ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}], ports: [{port: 5432}, {port: 53, protocol: UDP}, {port: 8000, endPort: 8080}]}]`}))
	wantRows(t, e.Added, `ingress 0.0.0.0/0except[10.0.0.0/8] -> prod/data TCP/5432,TCP/8000-8080,UDP/53`)
}

func TestAnyPeerIsTheWorldAndEveryClass(t *testing.T) {
	e := effect.Compute(t.Context(), shopCluster(), withPolicies(shopCluster(), [3]string{"prod", "open", `
podSelector: {matchLabels: {tierwall.io/tier-role: data}}
ingress: [{}]`}))
	wantRows(t, e.Added, `
ingress 0.0.0.0/0 -> prod/data any
ingress ::/0 -> prod/data any
ingress prod/frontend -> prod/data any blocked
ingress prod/backend -> prod/data any blocked
ingress prod/data -> prod/data any blocked
ingress (prod)/ -> prod/data any blocked
ingress test/frontend -> prod/data any blocked
ingress test/backend -> prod/data any blocked
ingress test/data -> prod/data any blocked
ingress (test)/ -> prod/data any blocked
ingress kube-system/ -> prod/data any
ingress (anymap[])/ -> prod/data any blocked
`)
}

func TestAPolicyBeforeItsPodsIsPotential(t *testing.T) {
	s := shopCluster()
	s.Pods = slices.DeleteFunc(s.Pods, func(p *compile.Pod) bool { return p.Namespace != "prod" || p.ServiceAccount != "web" })
	e := effect.Compute(t.Context(), s, withPolicies(s, [3]string{"prod", "open", `
podSelector: {}
ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: environment, operator: In, values: [test, staging]}]}}], ports: [{port: 5432}]}]`}))
	got := rowLines(e.Added)
	for _, want := range []string{
		"ingress (test)/frontend -> (prod)/data TCP/5432",
		"ingress (anymap[environment:staging])/ -> (prod)/data TCP/5432",
		"ingress (test)/ -> prod/frontend TCP/5432",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no row %q in\n%s", want, got)
		}
	}
}

func TestPodsOfOneClassReachEachOther(t *testing.T) {
	e := effect.Compute(t.Context(), shopCluster(), withPolicies(shopCluster(), [3]string{"prod", "peers", `
podSelector: {matchLabels: {tierwall.io/tier-role: frontend}}
policyTypes: [Ingress, Egress]
ingress: [{from: [{podSelector: {matchLabels: {tierwall.io/tier-role: frontend}}}], ports: [{port: 7946}]}]
egress: [{to: [{podSelector: {matchLabels: {tierwall.io/tier-role: frontend}}}], ports: [{port: 7946}]}]`}))
	wantRows(t, e.Added, `
egress prod/frontend -> prod/frontend TCP/7946
ingress prod/frontend -> prod/frontend TCP/7946`)
	if got := e.Added[0].From.Pods; got != 2 {
		t.Errorf("%d pods, want 2", got)
	}
}

const denyAll = "podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]"

func TestFirstPolicyUnderDefaultAllowCloses(t *testing.T) {
	s := shopCluster()
	s.Defaults.Action = policy.Allow
	e := effect.Compute(t.Context(), s, withPolicies(s, [3]string{"prod", "closed", denyAll}))
	wantRows(t, e.Added, "")
	if got := rowLines(e.Removed); !strings.Contains(got, "ingress 0.0.0.0/0 -> prod/data any") || !strings.Contains(got, "ingress test/frontend -> prod/data any") {
		t.Errorf("removed:\n%s", got)
	}
	if via := e.Removed[0].Via; len(via) != 1 || via[0].Policy != "default action of namespace prod" {
		t.Errorf("via: %v", via)
	}
}

func TestRemovingTheLastPolicyUnderDefaultAllowOpens(t *testing.T) {
	s := shopCluster()
	s.Defaults.Action = policy.Allow
	e := effect.Compute(t.Context(), withPolicies(s, [3]string{"prod", "closed", denyAll}), s)
	if got := rowLines(e.Added); !strings.Contains(got, "ingress 0.0.0.0/0 -> prod/data any") {
		t.Errorf("added:\n%s", got)
	}
	if len(e.NoLongerIsolated) == 0 || e.NoLongerIsolated[len(e.NoLongerIsolated)-1].Subject.Role != "data" {
		t.Errorf("no longer isolated: %+v", e.NoLongerIsolated)
	}
}

func TestRemovingAPolicyUnderDefaultDenyOpensNothing(t *testing.T) {
	e := effect.Compute(t.Context(), withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend}), shopCluster())
	wantRows(t, e.Added, "")
	wantRows(t, e.Removed, "ingress prod/backend -> prod/data TCP/5432 blocked")
}

func TestWideningAPolicyAddsOnlyWhatIsNew(t *testing.T) {
	before := withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend})
	after := withPolicies(shopCluster(), [3]string{"prod", "data", strings.Replace(dataFromBackend, "[{port: 5432}]", "[{port: 5400, endPort: 5500}]", 1)})
	wantRows(t, effect.Compute(t.Context(), before, after).Added, "ingress prod/backend -> prod/data TCP/5400-5431,TCP/5433-5500 blocked")
	if again := effect.Compute(t.Context(), after, after); len(again.Added)+len(again.Removed) != 0 {
		t.Errorf("no change: %+v", again)
	}
}

func TestAllPortsAreAnyEvenIfSomeWereOpen(t *testing.T) {
	before := withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend})
	after := withPolicies(shopCluster(), [3]string{"prod", "data", strings.Replace(dataFromBackend, ", ports: [{port: 5432}]", "", 1)})
	wantRows(t, effect.Compute(t.Context(), before, after).Added, "ingress prod/backend -> prod/data any blocked")
}

func TestARowIsNotBlockedWhenTheOtherSideAllowsIt(t *testing.T) {
	s := withPolicies(shopCluster(), [3]string{"prod", "api", `
podSelector: {matchLabels: {tierwall.io/tier-role: backend}}
policyTypes: [Egress]
egress: [{to: [{podSelector: {}}], ports: [{port: 5432}]}]`})
	e := effect.Compute(t.Context(), s, withPolicies(s, [3]string{"prod", "data", dataFromBackend}))
	wantRows(t, e.Added, "ingress prod/backend -> prod/data TCP/5432")
	if e.Added[0].Potential {
		t.Error("it is potential")
	}
}

func TestAPodLabelThatOpensAPath(t *testing.T) {
	s := withPolicies(shopCluster(), [3]string{"prod", "data", `
podSelector: {matchLabels: {tierwall.io/tier-role: data}}
ingress: [{from: [{podSelector: {matchLabels: {db-client: "yes"}}}], ports: [{port: 5432}]}]`})
	after := *s
	after.Pods = slices.Clone(s.Pods)
	changed := *s.Pods[0]
	changed.Labels = map[string]string{"app": "web", "db-client": "yes"}
	after.Pods[0] = &changed
	e := effect.Compute(t.Context(), s, &after)
	wantRows(t, e.Added, `
ingress prod/frontend -> prod/data TCP/5432 blocked
ingress prod/frontend -> (prod)/data TCP/5432 blocked`) // data pods may have db-client too
	if e.Added[0].From.Pods != 1 || e.Added[0].From.Name != "web-1" {
		t.Errorf("from: %+v", e.Added[0].From)
	}
}

func TestANamespaceLabelThatOpensAPath(t *testing.T) {
	s := withPolicies(shopCluster(), [3]string{"prod", "data", `
podSelector: {matchLabels: {tierwall.io/tier-role: data}}
ingress: [{from: [{namespaceSelector: {matchLabels: {db-clients: "yes"}}}], ports: [{port: 5432}]}]`})
	after := *s
	after.Namespaces = slices.Clone(s.Namespaces)
	after.Namespaces[2] = &compile.Namespace{Name: "kube-system", Labels: map[string]string{"db-clients": "yes"}}
	wantRows(t, effect.Compute(t.Context(), s, &after).Added, "ingress kube-system/ -> prod/data TCP/5432")
}

func TestATierRoleThatOpensAPath(t *testing.T) {
	s := withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend})
	after := *s
	after.TierRoles = []*v1alpha1.TierRole{tierRole("frontend", "nobody-else"), tierRole("backend", "api"), tierRole("backend2", "web"), tierRole("data", "db")}
	after.TierRoles[2].Spec.Role = "backend"
	wantRows(t, effect.Compute(t.Context(), s, &after).Added, "ingress prod/backend -> prod/data TCP/5432 blocked")
}

func TestAForgedRoleLabelOpensNothing(t *testing.T) {
	s := withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend})
	after := *s
	after.Pods = slices.Clone(s.Pods)
	forged := *s.Pods[0]
	forged.Labels = map[string]string{"app": "web", v1alpha1.RoleLabel: "backend"}
	after.Pods[0] = &forged
	wantRows(t, effect.Compute(t.Context(), s, &after).Added, "")
}

func TestLint(t *testing.T) {
	e := effect.Compute(t.Context(), shopCluster(), withPolicies(shopCluster(), [3]string{"prod", "odd", `
podSelector: {matchLabels: {app: nothing}}
ingress: [{from: [{podSelector: {matchLabels: {app: web}}}, {podSelector: {matchLabels: {app: gone}}}]}]
egress: [{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: pg}, {port: mysql}]}]`}))
	odd := func(rule string) effect.Ref { return effect.Ref{Policy: "NetworkPolicy prod/odd", Rule: rule} }
	if !e.Lint.SelectsNothing ||
		!slices.Equal(e.Lint.DeadPeers, []effect.Ref{odd("/spec/ingress/0/from/1")}) ||
		!slices.Equal(e.Lint.NamedPortsUnresolved, []effect.Ref{odd("/spec/egress/0/ports/1")}) {
		t.Errorf("lint: %+v", e.Lint)
	}
	if e := effect.Compute(t.Context(), shopCluster(), withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend})); e.Lint.SelectsNothing || len(e.Lint.DeadPeers)+len(e.Lint.NamedPortsUnresolved) > 0 {
		t.Errorf("lint of a sound policy: %+v", e.Lint)
	}
}

func TestLintOfRulesThatNeverDecide(t *testing.T) {
	data := withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend})
	ref := func(policy, rule, by string) effect.Ref { return effect.Ref{Policy: policy, Rule: rule, By: by} }
	for _, c := range []struct {
		name                string
		before              *compile.Snapshot
		policy              string
		redundant, shadowed []effect.Ref
	}{
		{"the same again", data, dataFromBackend,
			[]effect.Ref{ref("NetworkPolicy prod/other", "/spec/ingress/0", "NetworkPolicy prod/data /spec/ingress/0")}, nil},
		{"some more", data, `
podSelector: {matchLabels: {tierwall.io/tier-role: data}}
ingress: [{from: [{podSelector: {matchLabels: {tierwall.io/tier-role: backend}}}], ports: [{port: 5432}, {port: 5433}]}]`, nil, nil},
		{"denied before", withClusterPolicy(shopCluster(), "admin", "Admin", 1, "Deny"), dataFromBackend, nil,
			[]effect.Ref{ref("NetworkPolicy prod/other", "/spec/ingress/0", "ClusterNetworkPolicy admin /spec/ingress/0")}},
		{"accepted before", withClusterPolicy(shopCluster(), "admin", "Admin", 1, "Accept"), dataFromBackend,
			[]effect.Ref{ref("NetworkPolicy prod/other", "/spec/ingress/0", "ClusterNetworkPolicy admin /spec/ingress/0")}, nil},
		{"passed on", withClusterPolicy(shopCluster(), "admin", "Admin", 1, "Pass"), dataFromBackend, nil, nil},
		{"matches nothing", data, "podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := effect.Compute(t.Context(), c.before, withPolicies(c.before, [3]string{"prod", "other", c.policy})).Lint
			if !slices.Equal(got.RedundantWith, c.redundant) || !slices.Equal(got.ShadowedBy, c.shadowed) {
				t.Errorf("redundant %+v, shadowed %+v, want %+v, %+v", got.RedundantWith, got.ShadowedBy, c.redundant, c.shadowed)
			}
		})
	}
}

func TestLintOfEqualPriorities(t *testing.T) {
	s := withClusterPolicy(shopCluster(), "a", "Admin", 1, "Accept")
	tie := []effect.Ref{{Policy: "ClusterNetworkPolicy b", Rule: "/spec/priority", By: "ClusterNetworkPolicy a"}}
	for _, c := range []struct {
		name, tier string
		priority   int32
		want       []effect.Ref
	}{{"equal", "Admin", 1, tie}, {"another priority", "Admin", 2, nil}, {"another tier", "Baseline", 1, nil}} {
		if got := effect.Compute(t.Context(), s, withClusterPolicy(s, "b", c.tier, c.priority, "Deny")).Lint.PriorityTies; !slices.Equal(got, c.want) {
			t.Errorf("%s: ties %+v, want %+v", c.name, got, c.want)
		}
	}
	elsewhere := withClusterPolicy(s, "b", "Admin", 1, "Deny")
	b := elsewhere.ClusterNetworkPolicies[1].DeepCopy()
	b.Spec.Subject.Pods.NamespaceSelector = metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "test"}}
	elsewhere.ClusterNetworkPolicies[1] = b
	if got := effect.Compute(t.Context(), s, elsewhere).Lint.PriorityTies; len(got) > 0 {
		t.Errorf("ties %+v of policies for other pods", got)
	}
}

// withClusterPolicy returns the snapshot with a ClusterNetworkPolicy about what backends may reach of data in prod.
func withClusterPolicy(s *compile.Snapshot, name, tier string, priority int32, action string) *compile.Snapshot {
	out := *s
	cnp := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := yaml.UnmarshalStrict([]byte(fmt.Sprintf(`
tier: %s
priority: %d
subject: {pods: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}, podSelector: {matchLabels: {tierwall.io/tier-role: data}}}}
ingress:
  - action: %s
    from: [{namespaces: {}}]`, tier, priority, action)), &cnp.Spec); err != nil {
		panic(err)
	}
	out.ClusterNetworkPolicies = append(slices.Clone(s.ClusterNetworkPolicies), cnp)
	return &out
}

func TestTooManyRowsAreMergedAndThenTruncated(t *testing.T) {
	s := shopCluster()
	for i := range 300 {
		s.Pods = append(s.Pods, newPod("test", fmt.Sprintf("many-%03d", i), "web", fmt.Sprintf("10.244.1.%d", i%250+1)))
	}
	open := [3]string{"prod", "open", "podSelector: {}\ningress: [{from: [{namespaceSelector: {}}, {podSelector: {matchExpressions: [{key: pod, operator: Exists}]}}]}]"}
	e := effect.Compute(t.Context(), s, withPolicies(s, open))
	if e.Truncated || len(e.Added) > effect.MaxRows || !strings.Contains(rowLines(e.Added), "test/frontend -> prod/data any") {
		t.Errorf("truncated %v, %d rows", e.Truncated, len(e.Added))
	}
	for i := range 200 {
		name := fmt.Sprintf("n%03d", i)
		s.Namespaces = append(s.Namespaces, &compile.Namespace{Name: name})
		s.Pods = append(s.Pods, newPod(name, "p", "web", fmt.Sprintf("10.244.2.%d", i+1)))
	}
	if e := effect.Compute(t.Context(), s, withPolicies(s, open)); !e.Truncated || len(e.Added) != effect.MaxRows {
		t.Errorf("truncated %v, %d rows", e.Truncated, len(e.Added))
	}
}

func TestASelectorOfTooManyCombinationsIsIncomplete(t *testing.T) {
	values := "[a, b, c, d, e, f, g, h, i]"
	e := effect.Compute(t.Context(), shopCluster(), withPolicies(shopCluster(), [3]string{"prod", "wide", `
podSelector: {matchExpressions: [{key: x, operator: In, values: ` + values + `}, {key: y, operator: In, values: ` + values + `}]}
ingress: [{}]`}))
	if e.Complete || len(e.Incomplete) == 0 {
		t.Error("it is complete")
	}
}

func TestOrderOfObjectsDoesNotMatter(t *testing.T) {
	open := [3]string{"prod", "open", "podSelector: {}\ningress: [{from: [{namespaceSelector: {}}]}]"}
	one, other := shopCluster(), shopCluster()
	slices.Reverse(other.Pods)
	slices.Reverse(other.Namespaces)
	slices.Reverse(other.TierRoles)
	a, _ := json.Marshal(effect.Compute(t.Context(), one, withPolicies(one, open)))
	b, _ := json.Marshal(effect.Compute(t.Context(), other, withPolicies(other, open)))
	if string(a) != string(b) {
		t.Errorf("%s\nand\n%s", a, b)
	}
}

func TestJSONHasNoNull(t *testing.T) {
	for _, e := range []effect.Effect{effect.Compute(t.Context(), shopCluster(), shopCluster()), effect.Compute(t.Context(), shopCluster(), withPolicies(shopCluster(), [3]string{"prod", "data", dataFromBackend}))} {
		text, err := json.Marshal(e)
		if err != nil || strings.Contains(string(text), "null") {
			t.Errorf("%v %s", err, text)
		}
	}
}

// A pod that every policy treats as an existing one opens nothing new.
func TestHasEquivalentPod(t *testing.T) {
	s := shopCluster()
	s.NetworkPolicies = []*networkingv1.NetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "app"}, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Exists"}, {Key: "old", Operator: "DoesNotExist"}}}}}}
	port := compile.NamedPort{Name: "pg", Protocol: policy.TCP, Port: 5432}
	relabelled := func(p *compile.Pod, key, value string) *compile.Pod {
		p.Labels[key] = value
		return p
	}
	s.Pods[0].HostNetwork, s.Pods[1].Ended = true, true // the front ends of prod
	for _, c := range []struct {
		name string
		pod  *compile.Pod
		like bool
	}{
		{"a replica", newPod("prod", "api-9", "api", "10.244.0.99"), true},
		{"with its port", newPod("prod", "db-9", "db", "10.244.0.99", port), true},
		{"without its port", newPod("prod", "db-9", "db", "10.244.0.99"), false},
		{"of an account that has no pod", newPod("prod", "x", "other", "10.244.0.99"), false},
		{"of a namespace that has none", newPod("kube-system", "api-9", "api", "10.244.0.99"), false},
		{"with a value that no selector names", relabelled(newPod("prod", "api-9", "api", "10.244.0.99"), "app", "x"), false},
		{"with a label that a selector denies", relabelled(newPod("prod", "api-9", "api", "10.244.0.99"), "old", ""), false},
		{"with a label that no selector names", relabelled(newPod("prod", "api-9", "api", "10.244.0.99"), "version", "2"), true},
		{"like one on the host network, and one that has ended", newPod("prod", "web-9", "web", "10.244.0.99"), false},
		{"like one of another namespace alone", newPod("test", "web-9", "web", "10.244.0.99"), true},
	} {
		if got := effect.HasEquivalentPod(s, c.pod); got != c.like {
			t.Errorf("%s: %v, want %v", c.name, got, c.like)
		}
	}
}

// A pod with two labels may reach what pods with either one do not. That is what it opens.
func TestAPodWithTwoLabelsOpensWhatNeitherDoes(t *testing.T) {
	s := shopCluster()
	s.NetworkPolicies = []*networkingv1.NetworkPolicy{parseYAML[networkingv1.NetworkPolicy](t, `
metadata: {namespace: prod, name: db}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {client: "yes"}}}]}]`)}
	s.ClusterNetworkPolicies = []*policyv1alpha2.ClusterNetworkPolicy{parseYAML[policyv1alpha2.ClusterNetworkPolicy](t, `
metadata: {name: trusted-only}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}}
  ingress:
    - {action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchExpressions: [{key: trusted, operator: DoesNotExist}]}}}]}`)}
	for _, c := range []struct {
		labels map[string]string
		opens  bool
	}{
		{map[string]string{"client": "yes"}, false},
		{map[string]string{"trusted": "yes"}, false},
		{map[string]string{"client": "yes", "trusted": "yes"}, true},
	} {
		bare := newPod("prod", "new", "other", "10.244.0.99")
		bare.Labels = nil
		now := *bare
		now.Labels = c.labels
		before, after := *s, *s
		before.Pods, after.Pods = append(slices.Clip(s.Pods), bare), append(slices.Clip(s.Pods), &now)
		e := effect.Compute(t.Context(), &before, &after)
		opens := slices.ContainsFunc(e.Added, func(r effect.Row) bool { return r.Direction == effect.Ingress && r.To.Role == "data" })
		if opens != c.opens || !e.Complete {
			t.Errorf("%v: opens: %v, want %v; %+v", c.labels, opens, c.opens, e)
		}
	}
}

// parseYAML returns the object of a YAML text.
func parseYAML[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatal(err)
	}
	return out
}
