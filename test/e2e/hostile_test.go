//go:build cluster

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tierwall/tierwall/test/cluster"
	"github.com/tierwall/tierwall/test/shop"
)

// tenant may do what the owner of one namespace usually may: write its
// policies, its pods and their status.
const tenant = "mallory"

// TestHostile installs the chart with its default values and attacks it: as
// the owner of one namespace, from inside a pod, and with stolen accounts.
// docs/design/threats.md lists the threats.
func TestHostile(t *testing.T) {
	f := boot(t, cluster.Options{})
	f.deployShop(t)
	f.install(t, "--set", "namespaceDefaultActions.lax=Allow")
	f.run(t, "kubectl", "apply", "-f", "../../demo/shop/roles.yaml")
	f.run(t, "kubectl", "apply", "-f", "../../demo/shop/policies.yaml")
	f.run(t, "kubectl", "apply", "-f", "testdata/tenant.yaml")
	f.run(t, "kubectl", "-n", tenant, "rollout", "status", "daemonset/pods", "--timeout=90s")
	f.awaitTiers(t)
	for _, attack := range []struct {
		name string
		test func(*testing.T, *fixture)
	}{
		{"large policies, judged at once, do not stop the webhook", exhaustWebhook},
		{"peers times port ranges do not delay another tenant's change", exhaustNodes},
		{"stored policies do not keep an administrator's Deny out", blockEmergencyDeny},
		{"a terminating copy with a finalizer covers no deletion", hideDeletionBehindFinalizer},
		{"a pod's status does not take another pod's address", takeOverAddress},
		{"a closed pod does not reach its node from a link-local address", reachNodeFromLinkLocal},
		{"the webhook's account cannot have Secrets sent to itself", redirectSecrets},
		{"the enforcer's account changes no policy", rewritePoliciesFromNode},
	} {
		t.Run(attack.name, func(t *testing.T) {
			before := f.restarts(t)
			attack.test(t, f)
			if after := f.restarts(t); after != before {
				t.Errorf("containers of ours restarted: %q before, %q after", before, after)
			}
			f.wantReach(t, inTiers)
		})
		if t.Failed() {
			f.logs(t)
			f.await(t, "deployment/tierwall-webhook") // for the next attack
		}
	}
}

// awaitTiers waits until every pod of the shop shows its role.
func (f *fixture) awaitTiers(t *testing.T) {
	t.Helper()
	for _, ns := range shop.Namespaces {
		for _, tier := range shop.Tiers {
			f.run(t, "kubectl", "-n", ns, "wait", "pod", "-l", "app="+tier.Name,
				`--for=jsonpath={.metadata.labels.tierwall\.io/tier-role}=`+tier.Name, "--timeout=30s")
		}
	}
}

// restarts is how often each container of ours was restarted, and why it ended last, as text.
func (f *fixture) restarts(t *testing.T) string {
	t.Helper()
	return f.run(t, "kubectl", "-n", systemNamespace, "get", "pods", "-o",
		`jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[*].restartCount}{.status.containerStatuses[*].lastState.terminated.reason} {end}`)
}

// asUser runs kubectl as somebody else, with objects on its standard input,
// and returns all that it prints.
func (f *fixture) asUser(t *testing.T, user string, objects any, args ...string) (string, error) {
	t.Helper()
	cmd := f.Command(t.Context(), "kubectl", append([]string{"--as=" + user, "--as-group=system:authenticated"}, args...)...)
	if objects != nil {
		text, err := json.Marshal(objects)
		must(t, err)
		cmd.Stdin = bytes.NewReader(text)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// tenantPolicy is a policy of the tenant, for all of its pods.
func tenantPolicy(name string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: tenant},
	}
}

// withExceptions is an egress policy of networks that each have many exceptions, all of them different.
func withExceptions(name string, networks, exceptions int) *networkingv1.NetworkPolicy {
	p := tenantPolicy(name)
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
	var to []networkingv1.NetworkPolicyPeer
	for n := range networks {
		block := &networkingv1.IPBlock{CIDR: "::/0"}
		for e := range exceptions {
			block.Except = append(block.Except, fmt.Sprintf("%x::%x:0:%x/128", e<<7|1, n, e))
		}
		to = append(to, networkingv1.NetworkPolicyPeer{IPBlock: block})
	}
	p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: to}}
	return p
}

// peersByRanges is an ingress policy of one rule with many selectors and many ranges of ports.
func peersByRanges(name string, peers, ranges int) *networkingv1.NetworkPolicy {
	p := tenantPolicy(name)
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	var rule networkingv1.NetworkPolicyIngressRule
	for i := range peers {
		rule.From = append(rule.From, networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpNotIn, Values: []string{fmt.Sprint("v", i)}}}}})
	}
	for i := range ranges {
		port, end := intstr.FromInt(3*i+1024), int32(3*i+1025)
		rule.Ports = append(rule.Ports, networkingv1.NetworkPolicyPort{Port: &port, EndPort: &end})
	}
	p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{rule}
	return p
}

// rules is an ingress policy of many rules, each with networks and a port of its own.
func rules(name string, n int) *networkingv1.NetworkPolicy {
	p := tenantPolicy(name)
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	for i := range n {
		port := intstr.FromInt(1024 + i)
		r := networkingv1.NetworkPolicyIngressRule{Ports: []networkingv1.NetworkPolicyPort{{Port: &port}}}
		for j := range 5 {
			r.From = append(r.From, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("10.%d.%d.%d/32", i%256, j, i/256)}})
		}
		p.Spec.Ingress = append(p.Spec.Ingress, r)
	}
	return p
}

// exhaustWebhook has many large policies judged at once, by dry run, and meanwhile writes policies of others.
func exhaustWebhook(t *testing.T, f *fixture) {
	bombs := []*networkingv1.NetworkPolicy{withExceptions("exceptions", 200, 400), peersByRanges("ranges", 2000, 9000), rules("rules", 2500)}
	var attackers sync.WaitGroup
	for i := range 12 {
		attackers.Go(func() {
			_, _ = f.asUser(t, tenant, bombs[i%len(bombs)], "create", "--dry-run=server", "-f", "-") // refused or admitted: both are answers
		})
	}
	for range 5 {
		f.callback(t, true)
		f.callback(t, false)
	}
	attackers.Wait()
	f.callback(t, true)
	f.callback(t, false)
}

// exhaustNodes stores policies that multiply peers by ports, and wants another tenant's change in force.
func exhaustNodes(t *testing.T, f *fixture) {
	for i, p := range []*networkingv1.NetworkPolicy{peersByRanges("bomb-0", 500, 2100), peersByRanges("bomb-1", 2000, 2100), rules("bomb-2", 2000), withExceptions("bomb-3", 100, 400)} {
		out, err := f.asUser(t, tenant, p, "create", "-f", "-")
		t.Logf("policy %d: %v: %.300s", i, err, out)
	}
	f.wantCallback(t, true)
	f.wantCallback(t, false)
	f.deletePolicies(t)
}

func (f *fixture) deletePolicies(t *testing.T) {
	t.Helper()
	f.run(t, "kubectl", "-n", tenant, "delete", "networkpolicies", "--all")
}

// blockEmergencyDeny stores what the tenant may store, and then an administrator closes all namespaces to the tenant.
func blockEmergencyDeny(t *testing.T, f *fixture) {
	for i := range 6 {
		stored := peersByRanges(fmt.Sprint("stored-", i), 10+i, 1300)
		out, err := f.asUser(t, tenant, stored, "create", "-f", "-")
		t.Logf("policy %d: %v: %.300s", i, err, out)
	}
	f.run(t, "kubectl", "apply", "-f", "testdata/emergency.yaml")
	f.run(t, "kubectl", "delete", "-f", "testdata/emergency.yaml")
	f.deletePolicies(t)
}

// closing isolates the data tier of a namespace that allows what no policy denies.
func closing(name string, finalizers ...string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "lax", Finalizers: finalizers},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"tierwall.io/tier-role": "data"}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		},
	}
}

// hideDeletionBehindFinalizer has the last policy that closes the data tier covered by a copy that is being
// deleted. Whichever of the two goes last, a guardrail has to object.
func hideDeletionBehindFinalizer(t *testing.T, f *fixture) {
	const administrator = "system:admin"
	must := func(out string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(out, err)
		}
	}
	kubectl := func(objects any, args ...string) (string, error) {
		return f.asUser(t, administrator, objects, append([]string{"--as-group=system:masters"}, args...)...)
	}
	must(kubectl(closing("original"), "create", "-f", "-"))
	f.refused(t, []string{"Guardrail"}, "kubectl", "-n", "lax", "delete", "networkpolicy", "original")
	must(kubectl(closing("copy", "example.com/keep"), "create", "-f", "-"))
	must(kubectl(nil, "-n", "lax", "delete", "networkpolicy", "copy", "--wait=false"))
	time.Sleep(6 * time.Second) // the webhook sees that the copy is terminating, and remembers no request
	original, err := kubectl(nil, "-n", "lax", "delete", "networkpolicy", "original", "--wait=false")
	t.Logf("the original is deleted: %v: %s", err, original)
	release := []string{"-n", "lax", "patch", "networkpolicy", "copy", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`}
	last, err2 := kubectl(nil, release...)
	t.Logf("the copy is released: %v: %s", err2, last)
	if err == nil && err2 == nil {
		t.Error("the original and its terminating copy both went, and no guardrail objected")
	}
	f.run(t, "kubectl", "delete", "namespace", "lax", "--wait=false")
	_, _ = kubectl(nil, release...)
}

// takeOverAddress claims the data tier's addresses for a pod of the tenant on a node that does not exist,
// where no kubelet corrects the status.
func takeOverAddress(t *testing.T, f *fixture) {
	data := f.pod(t, "prod/data")
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "claimant", Namespace: tenant},
		Spec:       corev1.PodSpec{NodeName: "absent", Containers: []corev1.Container{{Name: "c", Image: shop.Image}}}}
	out, err := f.asUser(t, tenant, pod, "create", "-f", "-")
	if err != nil {
		t.Fatalf("the tenant cannot create a pod: %s", out)
	}
	defer f.run(t, "kubectl", "-n", tenant, "delete", "pod", "claimant", "--force", "--grace-period=0", "--ignore-not-found")
	var ips []string
	for _, a := range data.Addrs {
		ips = append(ips, fmt.Sprintf(`{"ip":%q}`, a))
	}
	status := fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[%s]}}`, data.Addrs[0], strings.Join(ips, ","))
	if out, err := f.asUser(t, tenant, nil, "-n", tenant, "patch", "pod", "claimant", "--subresource=status", "--type=merge", "-p", status); err != nil {
		t.Fatalf("the tenant cannot write the status of its pod: %s", out)
	}
	open := tenantPolicy("open")
	open.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
	out, err = f.asUser(t, tenant, open, "create", "-f", "-")
	t.Logf("the policy that opens the tenant's pods: %v: %s", err, out)
	defer f.run(t, "kubectl", "-n", tenant, "delete", "networkpolicy", "open", "--ignore-not-found")
	f.wantCallback(t, true) // a change after the claim is in force, so the claim was seen
	f.wantCallback(t, false)
	f.wantReach(t, inTiers)
}

// reachNodeFromLinkLocal tries the kubelet's port of the pod's own node at the node's link-local address.
func reachNodeFromLinkLocal(t *testing.T, f *fixture) {
	pod := f.pod(t, "prod/frontend")
	gateway, err := f.inPod(t, pod, "sh", "-c", "ip -6 neigh show dev eth0; ip -6 route show default").CombinedOutput()
	must(t, err)
	node := f.nodeOf(t, pod)
	ends, err := node.Exec(t.Context(), "sh", "-c", `ip -6 -o addr show scope link | awk '$2 ~ /^veth/ {sub("/.*", "", $4); print $4}'`)
	must(t, err)
	var targets []string
	for _, end := range strings.Fields(ends) {
		for _, port := range []string{"10250", "9466"} {
			targets = append(targets, "tcp:"+net.JoinHostPort(end+"%eth0", port))
		}
	}
	if len(targets) == 0 {
		t.Fatalf("no link-local address on %s: %s", node.Name, gateway)
	}
	out, err := f.inPod(t, pod, append([]string{f.probe.Program, "reach", "-timeout", "1s"}, targets...)...).Output()
	must(t, err)
	for a := range shop.Attempts(bytes.NewReader(out)) {
		if a.Reached {
			t.Errorf("%s reaches its node at %s", pod, a.Target)
		}
	}
}

// redirectSecrets tries, with the webhook's account, to have the API server send Secrets to the webhook.
func redirectSecrets(t *testing.T, f *fixture) {
	account := "system:serviceaccount:" + systemNamespace + ":tierwall-webhook"
	for _, kind := range []string{"validatingwebhookconfigurations", "mutatingwebhookconfigurations"} {
		for name, patch := range map[string]string{
			"rules":    `[{"op":"add","path":"/webhooks/0/rules/-","value":{"apiGroups":[""],"apiVersions":["v1"],"resources":["secrets"],"operations":["*"]}}]`,
			"url":      `[{"op":"remove","path":"/webhooks/0/clientConfig/service"},{"op":"add","path":"/webhooks/0/clientConfig/url","value":"https://192.0.2.1/x"}]`,
			"scope":    `[{"op":"remove","path":"/webhooks/0/namespaceSelector"}]`,
			"service":  `[{"op":"replace","path":"/webhooks/0/clientConfig/service/namespace","value":"mallory"}]`,
			"policy":   `[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`,
			"no rules": `[{"op":"replace","path":"/webhooks/0/rules","value":[]}]`,
			"emptied":  `[{"op":"replace","path":"/webhooks","value":[]}]`,
		} {
			if out, err := f.asUser(t, account, nil, "patch", kind, "tierwall", "--dry-run=server", "--type=json", "-p", patch); err == nil {
				t.Errorf("%s, %s: changed by the webhook's account: %s", kind, name, out)
			}
		}
	}
}

// rewritePoliciesFromNode tries what an account of a stolen node could do to policies and pods.
func rewritePoliciesFromNode(t *testing.T, f *fixture) {
	account := "system:serviceaccount:" + systemNamespace + ":tierwall-enforcer"
	for _, verb := range []string{"create", "update", "patch", "delete"} {
		for _, resource := range []string{"networkpolicies.networking.k8s.io", "clusternetworkpolicies.policy.networking.k8s.io", "tierroles.tierwall.io",
			"guardrails.tierwall.io", "pods", "nodes", "namespaces", "secrets", "validatingwebhookconfigurations", "pods/exec"} {
			out, err := f.asUser(t, account, nil, "auth", "can-i", verb, resource, "--all-namespaces")
			if err == nil {
				t.Errorf("the enforcer may %s %s: %s", verb, resource, out)
			}
		}
	}
}
