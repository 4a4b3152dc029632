package explain_test

import (
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
	"github.com/tierwall/tierwall/cli/explain"
	"github.com/tierwall/tierwall/cli/report"
	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

// shop is web, api and db in namespace prod, with policies in YAML by name.
func shop(t *testing.T, policies map[string]string) *compile.Snapshot {
	t.Helper()
	s := &compile.Snapshot{Namespaces: []*compile.Namespace{{Name: "prod", Labels: map[string]string{"env": "live"}}, {Name: "test", Labels: map[string]string{"env": "dev"}}}}
	for i, p := range []struct{ namespace, app string }{{"prod", "web"}, {"prod", "api"}, {"prod", "db"}, {"test", "web"}} {
		s.Pods = append(s.Pods, &compile.Pod{Namespace: p.namespace, Name: p.app, ServiceAccount: p.app, Labels: map[string]string{"app": p.app},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}, Ports: []compile.NamedPort{{Name: "main", Protocol: policy.TCP, Port: 8080}}})
	}
	s.TierRoles = []*v1alpha1.TierRole{{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: v1alpha1.TierRoleSpec{Role: "data", Namespaces: []string{"prod"}, ServiceAccounts: []string{"db"}}}}
	for name, spec := range policies {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name}}
		if err := yaml.UnmarshalStrict([]byte(spec), &np.Spec); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.NetworkPolicies = append(s.NetworkPolicies, np)
	}
	return s
}

func ask(t *testing.T, s *compile.Snapshot, from, to, port string) []explain.Answer {
	t.Helper()
	facts := explain.FactsOf(s)
	return question(t, facts, from, to, port).Answers
}

// question is the result of a question about facts.
func question(t *testing.T, facts *explain.Facts, from, to, port string) explain.Result {
	t.Helper()
	f := explain.Finder{Facts: facts, Namespace: "prod"}
	p, err := explain.ParsePort(port)
	if err != nil {
		t.Fatal(err)
	}
	q := explain.Question{Port: p}
	if q.From, err = f.Find(from); err != nil {
		t.Fatal(err)
	}
	if q.To, err = f.Find(to); err != nil {
		t.Fatal(err)
	}
	result, err := explain.Explain(facts, q)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestNearMisses(t *testing.T) {
	const allowAll = "egress: [{}]\npolicyTypes: [Egress]\npodSelector: {}"
	for name, c := range map[string]struct{ policy, from, to, port, want string }{
		"the port":                   {"podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]", "api", "db", "5433", "port: allows it on TCP/5432"},
		"the protocol":               {"podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]", "api", "db", "5432/UDP", "port: allows it on TCP/5432"},
		"the port's name":            {"podSelector: {matchLabels: {app: db}}\ningress: [{ports: [{port: main}]}]", "api", "db", "81", "port: allows it on TCP/8080"},
		"the peer's label":           {"podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]", "web", "db", "5432", "label: would allow it if prod/web had the label app=api; it has web"},
		"a label that is not there":  {"podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {track: stable}}}]}]", "web", "db", "5432", "label: would allow it if prod/web had the label track=stable; it does not have the label"},
		"a label too many":           {"podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}]}]", "web", "db", "5432", "label: would allow it if prod/web did not have the label app; it has web"},
		"the namespace's label":      {"podSelector: {matchLabels: {app: db}}\ningress: [{from: [{namespaceSelector: {matchLabels: {env: live}}}]}]", "test/web", "db", "5432", "label: would allow it if namespace test had the label env=live; it has dev"},
		"the role":                   {"podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {tierwall.io/tier-role: backend}}}]}]", "api", "db", "5432", "label: would allow it if prod/api had the role backend; it has no role"},
		"the subject's label":        {"podSelector: {matchLabels: {app: postgres}}\ningress: [{from: [{podSelector: {}}]}]", "api", "db", "5432", "label: would allow it if prod/db had the label app=postgres; it has db"},
		"the peer, by more than one": {"podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: x, track: z}}}], ports: [{port: 5432}]}]", "web", "db", "5432", "peer: allows this port for pods app=x,track=z in namespace prod"},
	} {
		a := ask(t, shop(t, map[string]string{"policy": c.policy, "out": allowAll}), c.from, c.to, c.port)
		if len(a) != 1 || a[0].Ingress.Verdict != "denied" || len(a[0].Ingress.NearMisses) != 1 {
			t.Errorf("%s: %+v", name, a)
			continue
		}
		m := a[0].Ingress.NearMisses[0]
		if got := m.But + ": " + m.Says; got != c.want || m.Policy != "NetworkPolicy prod/policy" || m.Field != "/spec/ingress/0" {
			t.Errorf("%s: %s %s: %s\nwant %s", name, m.Policy, m.Field, got, c.want)
		}
	}
}

// A rule that another one goes before is no near miss: its port would be denied too.
func TestAPortThatIsDeniedTooIsNoNearMiss(t *testing.T) {
	s := shop(t, map[string]string{"db": "podSelector: {matchLabels: {app: db}}\ningress: [{ports: [{port: 5432}]}]"})
	if a := ask(t, s, "api", "db", "80")[0]; len(a.Ingress.NearMisses) != 1 {
		t.Fatalf("%+v", a)
	}
	deny := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "closed"}, Spec: policyv1alpha2.ClusterNetworkPolicySpec{
		Tier: policyv1alpha2.AdminTier, Subject: policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
		Ingress: []policyv1alpha2.ClusterNetworkPolicyIngressRule{{Action: policyv1alpha2.ClusterNetworkPolicyRuleActionDeny,
			From: []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}}}}}}
	s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, deny)
	if a := ask(t, s, "api", "db", "80")[0]; len(a.Ingress.NearMisses) != 0 || a.Ingress.Policy != "ClusterNetworkPolicy closed" {
		t.Errorf("%+v", a)
	}
}

// That the default action or a later tier would decide is a way around a policy, and no near miss.
func TestAWayAroundAPolicyIsNoNearMiss(t *testing.T) {
	for name, policies := range map[string]map[string]string{
		"the label that selects the pod":        {"db": "podSelector: {matchLabels: {app: db}}"},
		"the absence of a label":                {"db": "podSelector: {matchExpressions: [{key: track, operator: DoesNotExist}]}"},
		"one of two policies, a label for both": {"db": "podSelector: {matchLabels: {app: db}}", "again": "podSelector: {matchExpressions: [{key: app, operator: In, values: [db]}]}"},
	} {
		for _, action := range []policy.Verdict{policy.Allow, policy.Audit} {
			s := shop(t, policies)
			s.Defaults.Action = action
			s.ClusterNetworkPolicies = []*policyv1alpha2.ClusterNetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "base"}, Spec: policyv1alpha2.ClusterNetworkPolicySpec{
				Tier: policyv1alpha2.BaselineTier, Subject: policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
				Ingress: []policyv1alpha2.ClusterNetworkPolicyIngressRule{{Action: policyv1alpha2.ClusterNetworkPolicyRuleActionAccept,
					From: []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}}}}}}}
			if a := ask(t, s, "test/web", "db", "80")[0]; a.Verdict != "denied" || len(a.Ingress.NearMisses) != 0 {
				t.Errorf("%s: %s: %+v", name, action, a.Ingress)
			}
		}
	}
}

func TestTheReasonNamesTierPolicyAndField(t *testing.T) {
	s := shop(t, map[string]string{"db": "podSelector: {matchLabels: {app: db}}\ningress: [{}, {from: [{podSelector: {matchLabels: {app: api}}}]}]"})
	a := ask(t, s, "api", "db", "5432")[0]
	if a.Verdict != "denied" || a.Egress.Tier != policy.DefaultTier || a.Egress.Policy != "" || a.Egress.Says != "no policy decides: default action of namespace prod" {
		t.Errorf("egress: %+v", a.Egress)
	}
	if a.Ingress.Verdict != "allowed" || a.Ingress.Tier != policy.NetworkPolicyTier || a.Ingress.Policy != "NetworkPolicy prod/db" || a.Ingress.Field != "/spec/ingress/0" {
		t.Errorf("ingress: %+v", a.Ingress)
	}
}

func TestWhatIsAuditedPassesAndSaysSo(t *testing.T) {
	s := shop(t, map[string]string{"db": "podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]"})
	s.Defaults.Action = policy.Audit
	q := explain.Question{Port: explain.Port{Protocol: policy.TCP, Number: 5432}}
	facts := explain.FactsOf(s)
	f := explain.Finder{Facts: facts, Namespace: "prod"}
	for to, want := range map[string]string{"db": "denied", "api": "passes, audited"} {
		var err error
		q.From, err = f.Find("web")
		if err != nil {
			t.Fatal(err)
		}
		if q.To, err = f.Find(to); err != nil {
			t.Fatal(err)
		}
		result, err := explain.Explain(facts, q)
		if err != nil {
			t.Fatal(err)
		}
		answers := result.Answers
		if allowed(answers[0]) != (to == "api") || answers[0].Egress.Verdict != "audited" {
			t.Errorf("%+v", answers[0])
		}
		var text strings.Builder
		if err := explain.Text(&text, report.Style{}, q, result); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text.String(), "on 5432/TCP: "+want+"\n") || !strings.Contains(text.String(), "egress   passes, audited  no policy decides") {
			t.Errorf("%s:\n%s", to, &text)
		}
	}
}

func TestFamiliesThatDifferAreToldApart(t *testing.T) {
	s := shop(t, map[string]string{"db": "podSelector: {matchLabels: {app: db}}\ningress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]", "out": "podSelector: {}\npolicyTypes: [Egress]\negress: [{}]"})
	for i, p := range s.Pods {
		p.Addrs = append(p.Addrs, netip.MustParseAddr(fmt.Sprintf("fd00::%d", i+1)))
	}
	a := ask(t, s, "api", "db", "5432")
	if len(a) != 2 || a[0].Family != "IPv4" || !allowed(a[0]) || a[1].Family != "IPv6" || allowed(a[1]) {
		t.Errorf("%+v", a)
	}
}

func TestQuestionsThatMakeNoSense(t *testing.T) {
	s := shop(t, nil)
	f := explain.Finder{Facts: explain.FactsOf(s), Namespace: "prod"}
	for text, want := range map[string]string{
		"prod/wbe": "there is no prod/wbe; there are prod/api, prod/db, prod/web", "deploy/wbe": "there is no deploy/wbe", "svc/db": "there are no Services in namespace prod",
		"127.0.0.1": "is no address by which", "fe80::1%eth0": "is no address by which",
		"empty/web": "there are no pods in namespace empty", "a/b/c": "want namespace/pod", "": "there is no ",
	} {
		if _, err := f.Find(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"", "0", "65536", "80/XYZ", "TCP", "80/TCP/1", "-1", "+80", "80/ICMP", "a_port", "a-name-of-16-char"} {
		if port, err := explain.ParsePort(text); err == nil {
			t.Errorf("port %q is %s", text, port)
		}
	}
	for text, want := range map[string]explain.Port{
		"80": {Protocol: policy.TCP, Number: 80}, "53/udp": {Protocol: policy.UDP, Number: 53}, "TCP/5432": {Protocol: policy.TCP, Number: 5432},
		"9/SCTP": {Protocol: policy.SCTP, Number: 9}, "icmp": {Protocol: policy.ICMP}, "http": {Protocol: policy.TCP, AnyProtocol: true, Name: "http"},
		"dns/UDP": {Protocol: policy.UDP, Name: "dns"}, "udp/dns": {Protocol: policy.UDP, Name: "dns"}, "tcp": {Protocol: policy.TCP, AnyProtocol: true, Name: "tcp"},
	} {
		if port, err := explain.ParsePort(text); err != nil || port != want {
			t.Errorf("port %q: %+v, %v", text, port, err)
		}
	}
}

// What explain says is what the API text says, on clusters and flows at random; and
// whoever does what a near miss about a label says is allowed by the oracle too.
func TestTheVerdictsAreTheOracles(t *testing.T) {
	asked, missed := map[string]int{}, 0
	for seed := uint64(1); seed <= 300; seed++ {
		r := generate.NewRand(seed)
		s := generate.Cluster(r, generate.Small)
		c := generate.Objects(r, s)
		program, _ := compile.Compile(s, "")
		facts := explain.FactsOf(s)
		f := explain.Finder{Facts: facts}
		for _, flow := range generate.Flows(r, s, 8) {
			if !flow.Source.IsValid() || !flow.Destination.IsValid() || flow.ICMPType != 0 || flow.Source.Unmap() == flow.Destination.Unmap() ||
				flow.Destination.IsLoopback() || flow.Destination.IsUnspecified() || flow.Source.IsLoopback() || flow.Source.IsUnspecified() {
				continue
			}
			q := explain.Question{Port: explain.Port{Protocol: flow.Protocol, Number: flow.DestinationPort}}
			q.From, _ = f.Find(flow.Source.String())
			q.To, _ = f.Find(flow.Destination.String())
			result, err := explain.Explain(facts, q)
			answers := result.Answers
			if err != nil {
				if eval.Decide(program, flow).Verdict == policy.Allow {
					t.Errorf("seed %d: %+v: %v", seed, flow, err)
				}
				continue
			}
			a := answers[0]
			egress, ingress := oracle.Egress(c, flow), oracle.Ingress(c, flow)
			want := [3]string{said(oracle.Decide(c, flow)), said(egress), said(ingress)}
			if want[0] == "allowed" && len(oracle.Audited(egress, ingress)) > 0 {
				want[0] = "audited"
			}
			if got := [3]string{a.Verdict, a.Egress.Verdict, a.Ingress.Verdict}; got != want {
				t.Fatalf("seed %d: %+v: %q, want %q\n%+v", seed, flow, got, want, a)
			}
			asked[a.Verdict]++
			for _, m := range slices.Concat(a.Egress.NearMisses, a.Ingress.NearMisses) {
				missed++
				if m.Policy == "" || m.Says == "" {
					t.Errorf("seed %d: %+v: a near miss says nothing: %+v", seed, flow, m)
				}
			}
			if a.Egress.Verdict == "allowed" && len(a.Egress.NearMisses) > 0 || a.Ingress.Verdict == "allowed" && len(a.Ingress.NearMisses) > 0 {
				t.Errorf("seed %d: %+v: what is allowed has near misses: %+v", seed, flow, a)
			}
		}
	}
	if asked["allowed"] < 200 || asked["denied"] < 200 || asked["audited"] < 50 || missed < 200 {
		t.Errorf("asked %v with %d near misses: too few to mean something", asked, missed)
	}
}

func allowed(a explain.Answer) bool { return a.Verdict == "allowed" || a.Verdict == "audited" }

func said(v policy.Verdict) string {
	return map[policy.Verdict]string{policy.Deny: "denied", policy.Allow: "allowed", policy.Audit: "audited"}[v]
}
