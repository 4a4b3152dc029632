package simulator

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

const chains = "*filter\n:A - [0:0]\n:B - [0:0]\n"

func TestWhatIsNotUnderstoodIsRefusedAndChangesNothing(t *testing.T) {
	for _, line := range []string{
		"-A A", "-A A -j NOWHERE", "-A NOWHERE -j DROP", "-A A --dport 80 -j DROP", "-A A -p tcp --dport 80 -j DROP",
		"-A A -p tcp -m tcp --dport 80:70 -j DROP", "-A A -p tcp -m tcp --dport 65536 -j DROP", "-A A -p 0 -j DROP",
		"-A A -p tcp -m multiport --dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15:16 -j DROP",
		"-A A -m set --match-set none src -j DROP", "-A A --comment x -j DROP", "-A A -m comment --comment \"x -j DROP",
		"-A A ! -s 10.0.0.0/8 -j DROP", "-A A -s 10.0.0.0/33 -j DROP", "-X A", "-X C", "-D A -j DROP", "nonsense",
		":a-name-that-is-longer-than-28 - [0:0]",
		"-A A -m conntrack --ctstate LOST -j DROP", "-A A --ctstate NEW -j DROP",
		"-A A -p tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP", "-A A -p tcp -m tcp ! --tcp-flags SYN,ACK SYN -j DROP",
		"-A A -p udp -m udp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP", "-A A -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
		"-A A -p tcp -m tcp ! --chunk-types any INIT -j DROP", "-A A -p sctp -m sctp ! --dport 80 -j DROP", "-A A -p tcp -m tcp !",
		"-A A -p udp -j REJECT --reject-with tcp-reset", "-A A -p tcp -j REJECT --reject-with icmp-port-unreachable",
		"-A A -p tcp -j DROP --reject-with tcp-reset",
		"-A A -j DROP --nflog-group 1", "-A A -j NFLOG --nflog-group 65536", "-A A --nflog-prefix x -j NFLOG", "-A A -j NFLOG --nflog-prefix " + strings.Repeat("x", 64),
		"-A A --limit 1/sec -j DROP", "-A A -m limit --limit 0/sec -j DROP", "-A A -m limit --limit 1/day -j DROP",
	} {
		table := New()
		if err := table.Restore(chains + "-A A -j B\n" + line + "\nCOMMIT\n"); err == nil {
			t.Errorf("%q is accepted", line)
		}
		if slices.Contains(table.Chains(), "A") {
			t.Errorf("%q left something behind", line)
		}
	}
	if err := New().Restore(chains); err == nil {
		t.Error("a table without COMMIT is accepted")
	}
}

func TestSetsRefuseWhatIpsetRefuses(t *testing.T) {
	table := New()
	if err := table.RestoreSets("create s hash:ip family inet hashsize 64 maxelem 2\ncreate p hash:ip,port family inet6 hashsize 64 maxelem 2\ncreate n hash:net family inet hashsize 64 maxelem 2"); err != nil {
		t.Fatal(err)
	}
	if err := table.Restore(chains + "-A A -m set --match-set s src -j DROP\nCOMMIT\n"); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"create s hash:net family inet hashsize 64 maxelem 2", "create odd bitmap:port", "add none 10.0.0.1", "destroy s",
		"add s fd00::1", "add s 10.0.0.0/8", "add s 10.0.0.1,tcp:80", "add p fd00::1", "add p fd00::1,icmp:80", "add n 0.0.0.0/0",
		"add n nonsense", "flush s",
	} {
		if err := table.RestoreSets(line); err == nil {
			t.Errorf("%q is accepted", line)
		}
	}
	if err := table.RestoreSets("add s 10.0.0.1\nadd s 10.0.0.2\nadd s 10.0.0.3"); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("a set that is full: %v", err)
	}
}

func TestStatesAndNegations(t *testing.T) {
	packets := map[string]Packet{
		"new": {Protocol: policy.TCP}, "midway": {Protocol: policy.TCP, Midway: true},
		"established": {Protocol: policy.TCP, Midway: true, Established: true}, "invalid": {Protocol: policy.TCP, Midway: true, Invalid: true},
		"untracked": {Protocol: policy.TCP, Midway: true, Untracked: true}, "sctp": {Protocol: policy.SCTP, Midway: true},
	}
	for rule, want := range map[string][]string{
		"-m conntrack --ctstate NEW":                           {"midway", "new", "sctp"},
		"-m conntrack --ctstate INVALID,NEW":                   {"invalid", "midway", "new", "sctp"},
		"-m conntrack --ctstate RELATED,ESTABLISHED,UNTRACKED": {"established", "untracked"},
		"-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN":      {"established", "invalid", "midway", "untracked"},
		"-p sctp -m sctp ! --chunk-types any INIT":             {"sctp"},
		"-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -m comment --comment \"x\"": {"midway"},
	} {
		table := New()
		if err := table.Restore("*filter\n-A FORWARD " + rule + " -j DROP\nCOMMIT\n"); err != nil {
			t.Fatal(err)
		}
		var got []string
		for name, packet := range packets {
			if v, err := table.Judge("FORWARD", packet); err != nil {
				t.Fatal(err)
			} else if !v.Accepted {
				got = append(got, name)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s matches %v, want %v", rule, got, want)
		}
	}
}

func TestJumpsComeBackAndGotosDoNot(t *testing.T) {
	packet := Packet{Source: netip.MustParseAddr("10.0.0.1"), Destination: netip.MustParseAddr("10.0.0.2")}
	for rules, want := range map[string]bool{
		"-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -j RETURN\n":                            false,
		"-A FORWARD -g A\n-A FORWARD -j DROP\n-A A -j RETURN\n":                            true,
		"-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -g B\n-A A -j ACCEPT\n-A B -j RETURN\n": false,
		"-A FORWARD -j A\n-A A -j B\n-A A -j DROP\n-A B -s 10.0.0.0/24 -j ACCEPT\n":        true,
		"-A FORWARD -j A\n-A A -j B\n-A A -j DROP\n-A B -s 10.0.1.0/24 -j ACCEPT\n":        false,
		"-A FORWARD -j A\n-A A -m comment --comment \"-j DROP\" -j RETURN\n":               true,
	} {
		table := New()
		if err := table.Restore(chains + rules + "COMMIT\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := table.Judge("FORWARD", packet); err != nil || got.Accepted != want {
			t.Errorf("accepted: %v (%v), want %v:\n%s", got.Accepted, err, want, rules)
		}
	}
	table := New()
	if err := table.Restore(chains + "-A FORWARD -j A\n-A A -j B\n-A B -j A\nCOMMIT\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Judge("FORWARD", packet); err == nil {
		t.Error("a loop of chains is accepted")
	}
}
