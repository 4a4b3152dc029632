package cli_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/cli"
)

// asked is a question about a file of testdata/explain, and what the answer is.
type asked struct {
	file, from, to, port string
	flags                []string
	status               int
	says                 string // in the answer
}

func (q asked) args() []string {
	return append([]string{"explain", "-f", "testdata/explain/" + q.file + ".yaml", "--default-action", "Allow", "--from", q.from, "--to", q.to, "--port", q.port}, q.flags...)
}

func expect(t *testing.T, questions []asked) {
	t.Helper()
	for _, q := range questions {
		status, out, errs := run(t, "", q.args()...)
		if status != q.status || !strings.Contains(out+errs, q.says) {
			t.Errorf("%s to %s on %s %v: exit status %d, want %d and %q\n%s%s", q.from, q.to, q.port, q.flags, status, q.status, q.says, out, errs)
		}
		var document struct{ Verdict string }
		if status == cli.Unusable {
			continue
		}
		_, text, _ := run(t, "", append(q.args(), "-o", "json")...)
		if err := json.Unmarshal([]byte(text), &document); err != nil {
			t.Errorf("%s", text)
		}
		want := map[int][]string{cli.Fine: {"allowed", "audited"}, cli.Violated: {"denied", "partly"}, cli.Unknown: {"unknown"}}[status]
		if !slices.Contains(want, document.Verdict) {
			t.Errorf("%s to %s on %s: exit status %d, but in JSON the verdict is %q", q.from, q.to, q.port, status, document.Verdict)
		}
	}
}

// One replica is another pod than the next: that a pod reaches itself says nothing of them.
func TestReplicasAreNotOnePod(t *testing.T) {
	expect(t, []asked{
		{"replicas", "farm/deploy/cache", "farm/deploy/cache", "7946", nil, cli.Violated, "a pod → itself (2 of 4 pairs): allowed"},
		{"replicas", "farm/ds/agent", "farm/ds/agent", "80", nil, cli.Violated, "a pod → another of them (2 of 4 pairs): denied"},
		{"replicas", "farm/scaled", "farm/scaled", "80", nil, cli.Violated, "not for all pods"},
		{"replicas", "farm/single", "farm/single", "80", nil, cli.Fine, "a pod reaches itself"},
		{"replicas", "farm/cache", "farm/svc/cache", "7946", nil, cli.Violated, "denied"},
		{"replicas", "farm/single", "farm/cache", "gossip", nil, cli.Violated, "farm/deployment/single → farm/deployment/cache on gossip: denied"},
		{"replicas", "farm/sts/ring", "farm/sts/ring", "80", nil, cli.Violated, "not for all pods"},
		{"replicas", "farm/single", "farm/sts/ring", "80", nil, cli.Violated, "denied"},
	})
}

// A pod of a folder has no address: what depends on it is not known.
func TestAddressesOfPodsAreNotMadeUp(t *testing.T) {
	pods := func(networks ...string) (flags []string) {
		for _, n := range networks {
			flags = append(flags, "--pod-cidr", n)
		}
		return flags
	}
	expect(t, []asked{
		{"addresses", "edge/crawler", "edge/anything", "80", nil, cli.Unknown, "--pod-cidr"},
		{"addresses", "edge/crawler", "edge/anything", "80", pods("10.244.0.0/16"), cli.Violated, "isolates"},
		{"addresses", "edge/crawler", "edge/anything", "80", pods("172.20.0.0/16"), cli.Fine, "allowed"},
		{"addresses", "edge/crawler", "edge/anything", "80", pods("8.0.0.0/5"), cli.Unknown, "--pod-cidr"},
		{"addresses", "edge/crawler", "edge/anything", "80", pods("172.20.0.0/16", "10.0.0.0/16"), cli.Unknown, "--pod-cidr"},
		{"addresses", "edge/modern", "edge/anything", "80", nil, cli.Unknown, "the address of edge/anything"},
		{"addresses", "edge/modern", "edge/anything", "80", pods("fd00:1::/64"), cli.Violated, "isolates"},
		{"addresses", "edge/modern", "edge/anything", "80", pods("2001:db8::/64"), cli.Fine, "allowed"},
		{"addresses", "edge/anything", "edge/crawler", "80", nil, cli.Fine, "allowed"},
		{"addresses", "edge/anything", "edge/intranet", "80", nil, cli.Unknown, "the address of edge/anything"},
		{"addresses", "edge/anything", "edge/intranet", "80", pods("10.200.0.0/16"), cli.Fine, "allowed"},
		{"addresses", "edge/anything", "edge/intranet", "80", pods("10.0.0.0/9"), cli.Violated, "isolates"},
		{"addresses", "edge/exporter", "edge/intranet", "80", nil, cli.Unknown, "the node of edge/daemonset/exporter"},
		{"addresses", "edge/crawler", "edge/exporter", "80", []string{"--node-cidr", "10.0.0.0/24"}, cli.Violated, "isolates"},
		{"addresses", "edge/crawler", "edge/exporter", "80", nil, cli.Unknown, "--node-cidr"},
		{"addresses", "198.51.100.7", "edge/intranet", "80", nil, cli.Violated, "isolates"},
		{"addresses", "10.200.0.7", "edge/intranet", "80", nil, cli.Unknown, "whether 10.200.0.7 is the address of a pod"},
		{"addresses", "10.200.0.7", "edge/intranet", "80", pods("10.3.0.0/16"), cli.Fine, "10.128.0.0/9"},
		{"addresses", "10.1.0.7", "edge/intranet", "80", nil, cli.Unknown, "whether 10.1.0.7 is the address of a pod, a node or a Service"},
		{"addresses", "10.1.0.7", "edge/intranet", "80", []string{"--node-cidr", "10.9.0.0/16"}, cli.Violated, "isolates"},
		{"addresses", "edge/crawler", "192.0.2.80", "80", nil, cli.Fine, "allowed"},
		{"addresses", "edge/crawler", "240.0.0.1", "80", nil, cli.Fine, "allowed"},
	})
}

// A namespace has labels that only its Namespace tells, but for its name.
func TestLabelsOfNamespacesAreNotMadeUp(t *testing.T) {
	expect(t, []asked{
		{"namespaces", "told/client", "office/wiki", "8080", nil, cli.Fine, "allowed"},
		{"namespaces", "untold/client", "office/wiki", "8080", nil, cli.Unknown, "the label team of namespace untold; its Namespace says so"},
		{"namespaces", "untold/client", "office/wiki", "8081", nil, cli.Fine, "allowed"},
		{"namespaces", "told/client", "office/wiki", "8081", nil, cli.Violated, "isolates"},
		{"namespaces", "untold/client", "office/wiki", "8082", nil, cli.Unknown, "the label team of namespace untold"},
		{"namespaces", "untold/client", "office/wiki", "9999", nil, cli.Violated, "isolates"},
		{"namespaces", "office/wiki", "untold/client", "80", nil, cli.Unknown, "the label zone of namespace untold"},
		{"namespaces", "office/wiki", "told/client", "80", nil, cli.Fine, "allowed"},
	})
}

// Controllers, operators and sidecars add labels that no template has.
func TestLabelsThatAreAddedWhenPodsRun(t *testing.T) {
	expect(t, []asked{
		{"labels", "lab/job/migrate", "lab/vault", "8200", nil, cli.Fine, "job-name=migrate"},
		{"labels", "lab/cronjob/backup", "lab/vault", "8200", nil, cli.Violated, "isolates"},
		{"labels", "lab/cronjob/backup", "lab/vault", "8201", nil, cli.Unknown, "the label job-name of lab/cronjob/backup"},
		{"labels", "lab/job/migrate", "lab/vault", "8201", nil, cli.Violated, "isolates"},
		{"labels", "lab/cronjob/backup", "lab/vault", "8202", nil, cli.Fine, "allowed"},
		{"labels", "lab/web", "lab/vault", "8202", nil, cli.Violated, "isolates"},
		{"labels", "lab/web", "lab/vault", "8203", nil, cli.Violated, "isolates"},
		{"labels", "lab/pg", "lab/vault", "8203", nil, cli.Fine, "allowed"},
		{"labels", "lab/web", "lab/vault", "8204", nil, cli.Violated, "isolates"},
		{"labels", "lab/pg", "lab/vault", "8204", nil, cli.Violated, "isolates"},
		{"labels", "lab/job/migrate", "lab/vault", "8205", nil, cli.Unknown, "controller-uid"},
		{"labels", "lab/web", "lab/pg", "5432", nil, cli.Unknown, "the label role of lab/statefulset/pg"},
		{"labels", "lab/web", "lab/pg", "5433", nil, cli.Violated, "isolates"},
		{"labels", "lab/job/migrate", "lab/sts/pg", "5433", nil, cli.Unknown, "the label role"},
		{"labels", "lab/job/migrate", "lab/svc/vault-active", "8200", nil, cli.Fine, "allowed"},
		{"labels", "lab/web", "lab/svc/vault-active", "8200", nil, cli.Violated, "isolates"},
		{"labels", "lab/web", "lab/svc/pg-primary", "sql", nil, cli.Unknown, "the label role"},
	})
}

// A connection to a Service is judged by what is behind it.
func TestServicesAreWhatIsBehindThem(t *testing.T) {
	expect(t, []asked{
		{"services", "mall/client", "10.96.3.4", "443", nil, cli.Fine, "mall/service/old on 443/TCP: allowed"},
		{"services", "mall/client", "mall/svc/old", "https", nil, cli.Fine, "TCP/8080"},
		{"services", "mall/client", "mall/svc/api", "443", nil, cli.Violated, "not for all pods"},
		{"services", "mall/client", "mall/svc/api-headless", "443", nil, cli.Unknown, "the address of mall/deployment/legacy"},
		{"services", "mall/client", "mall/svc/api-headless", "443", []string{"--pod-cidr", "10.244.0.0/16"}, cli.Violated, "isolates"},
		{"services", "mall/client", "mall/svc/api-headless", "8080", nil, cli.Fine, "allowed"},
		{"services", "mall/client", "mall/svc/api-headless", "https", nil, cli.Fine, "allowed"},
		{"services", "mall/client", "mall/svc/outside", "5432", nil, cli.Violated, "198.51.100.40 (1 of 2 pairs): allowed"},
		{"services", "mall/client", "10.96.3.5", "sql", nil, cli.Violated, "198.51.100.41 (1 of 2 pairs): denied"},
		{"services", "mall/client", "mall/svc/partner", "443", nil, cli.Unknown, "partner.example.com"},
		{"services", "mall/client", "10.96.3.6", "80", nil, cli.Unknown, "what is behind Service mall/nowhere"},
		{"services", "mall/mute", "10.96.3.6", "80", nil, cli.Violated, "NetworkPolicy mall/mute isolates"},
		{"services", "mall/mute", "mall/svc/partner", "443", nil, cli.Violated, "NetworkPolicy mall/mute isolates"},
		{"services", "mall/client", "10.96.9.9", "443", nil, cli.Unknown, "--service-cidr"},
		{"services", "mall/client", "10.96.9.9", "443", []string{"--service-cidr", "10.96.0.0/16"}, cli.Unknown, "what is behind the Service that has the address 10.96.9.9"},
		{"services", "mall/mute", "10.96.9.9", "443", nil, cli.Violated, "isolates"},
		{"services", "mall/client", "mall/svc/api", "80", nil, cli.Unusable, "has no port 80/TCP; it has 443/TCP https"},
		{"services", "mall/client", "mall/svc/apii", "80", nil, cli.Unusable, "the Services in namespace mall are api, api-headless"},
	})
}

// A port by name has the number that the destination gives it, whoever else has the name.
func TestPortsByNameHaveTheDestinationsNumber(t *testing.T) {
	expect(t, []asked{
		{"ports", "hub/user", "hub/left", "9001", nil, cli.Fine, "any peer on TCP/9001 of hub/left (container ports named admin of TCP)"},
		{"ports", "hub/user", "hub/right", "9002", nil, cli.Fine, "any peer on TCP/9002 of hub/right (container ports named admin of TCP)"},
		{"ports", "hub/user", "hub/right", "admin", nil, cli.Fine, "ingress  allowed  NetworkPolicy hub/all /spec/ingress/0: any peer on TCP/9002"},
		{"ports", "hub/left", "hub/right", "9001", nil, cli.Violated, "allows it on TCP/9002"},
		{"ports", "hub/left", "hub/right", "query", nil, cli.Violated, "on query: denied"},
		{"ports", "hub/left", "hub/right", "nothing", nil, cli.Unusable, "has no port named nothing; it has admin (9002/TCP), query (53/UDP), zone (53/TCP)"},
		{"ports", "hub/left", "198.51.100.1", "admin", nil, cli.Unusable, "gives no port a name"},
	})
	for _, q := range []asked{{"ports", "hub/user", "hub/left", "80", nil, 0, ""}, {"labels", "lab/web", "lab/pg", "5432", nil, 0, ""}, {"addresses", "10.1.0.7", "edge/intranet", "80", nil, 0, ""}} {
		_, first, _ := run(t, "", q.args()...)
		for range 5 {
			if _, again, _ := run(t, "", q.args()...); again != first {
				t.Errorf("another answer to the same question:\n%s\n%s", first, again)
			}
		}
	}
}
