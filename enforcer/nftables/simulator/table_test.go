package simulator

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

const base = `add table inet tierwall
add chain inet tierwall forward { type filter hook forward priority 0 ; policy accept ; }
add chain inet tierwall a
add set inet tierwall s { type ipv4_addr . inet_proto . inet_service ; flags interval ; }
add set inet tierwall h { type ipv4_addr ; }
add map inet tierwall m { type ipv4_addr : verdict ; }
add element inet tierwall m { 10.0.0.1 comment "x" : goto a }
add element inet tierwall s { 10.0.0.0/8 . 6 . 80-90 }
add rule inet tierwall forward ip saddr vmap @m
add rule inet tierwall a ip saddr . meta l4proto . th dport @s accept comment "why"
add rule inet tierwall a drop
`

func TestWhatIsNotUnderstoodIsRefusedAndChangesNothing(t *testing.T) {
	for _, line := range []string{
		"add table ip tierwall", "add rule inet tierwall a", "add rule inet tierwall b drop", "add rule inet tierwall a tcp dport 80 drop",
		"add rule inet tierwall a ip saddr @none drop", "add rule inet tierwall a ip saddr vmap @h", "add rule inet tierwall a ip saddr @m drop",
		"add rule inet tierwall a drop drop", "add rule inet tierwall a jump b", "add rule inet tierwall a drop comment \"x\" accept",
		"add element inet tierwall h { 10.0.0.0/8 }", "add element inet tierwall h { fd00::1 }", "add element inet tierwall h { 10.0.0.1 : drop }",
		"add element inet tierwall m { 10.0.0.2 : goto b }", "add element inet tierwall m { 10.0.0.1 : drop }",
		"add element inet tierwall s { 10.1.0.0/16 . 6 . 85 }", "add element inet tierwall s { 10.0.0.0/8 . 6 }",
		"delete element inet tierwall h { 10.0.0.1 }", "delete chain inet tierwall a", "delete set inet tierwall s", "delete map inet tierwall m",
		"delete set inet tierwall m", "add set inet tierwall h { type ipv6_addr ; }", "flush chain inet tierwall b", "flush ruleset",
		"add chain inet tierwall forward { type filter hook input priority 0 ; policy accept ; }",
	} {
		table := New()
		if err := table.Run(base); err != nil {
			t.Fatal(err)
		}
		if err := table.Run("add rule inet tierwall forward accept\nadd chain inet tierwall c\n" + line + "\n"); err == nil {
			t.Errorf("%q was understood", line)
		}
		packet := Packet{Source: netip.MustParseAddr("10.0.0.1"), Destination: netip.MustParseAddr("10.0.0.2"), Protocol: policy.UDP}
		if v, err := table.Judge("forward", packet); err != nil || v.Accepted {
			t.Errorf("%q changed something (%v)", line, err)
		}
	}
}

func TestWhatIsInUseGoesWithItsUsers(t *testing.T) {
	table := New()
	if err := table.Run(base + strings.Join([]string{"flush chain inet tierwall forward", "flush chain inet tierwall a",
		"delete map inet tierwall m", "delete set inet tierwall s", "delete chain inet tierwall a"}, "\n")); err != nil {
		t.Fatal(err)
	}
	if len(table.Chains()) != 1 || len(table.Sets()) != 1 {
		t.Errorf("left: %v %v", table.Chains(), table.Sets())
	}
}

func TestAPacketMeetsATransactionOnItsWay(t *testing.T) {
	before := New()
	if err := before.Run(base); err != nil {
		t.Fatal(err)
	}
	after := before.Clone()
	if err := after.Run("delete element inet tierwall s { 10.0.0.0/8 . 6 . 80-90 }\nadd element inet tierwall s { 10.0.0.0/8 . 6 . 91 }\n"); err != nil {
		t.Fatal(err)
	}
	for port, want := range map[uint16][3]bool{80: {false, false, true}, 91: {true, true, false}} {
		packet := Packet{Source: netip.MustParseAddr("10.0.0.1"), Destination: netip.MustParseAddr("10.0.0.2"), Protocol: policy.TCP, DestinationPort: port}
		for lookups, accepted := range want {
			if v, err := before.JudgeDuring(after, lookups, "forward", packet); err != nil || v.Accepted != accepted {
				t.Errorf("port %d, after %d lookups: %v (%v)", port, lookups, v.Accepted, err)
			}
		}
	}
}

// To a packet that came before a chain, the chain has no rules.
func TestANewChainIsEmptyToAPacketThatCameBefore(t *testing.T) {
	before := New()
	if err := before.Run(base); err != nil {
		t.Fatal(err)
	}
	after := before.Clone()
	if err := after.Run("add chain inet tierwall b\nadd rule inet tierwall b drop\nadd element inet tierwall m { 10.0.0.3 : goto b }\n"); err != nil {
		t.Fatal(err)
	}
	packet := Packet{Source: netip.MustParseAddr("10.0.0.3"), Destination: netip.MustParseAddr("10.0.0.2"), Protocol: policy.TCP}
	if v, err := before.JudgeDuring(after, 0, "forward", packet); err != nil || !v.Accepted {
		t.Errorf("accepted %v, %v", v.Accepted, err)
	}
	if v, _ := after.Judge("forward", packet); v.Accepted {
		t.Error("the new chain does not drop")
	}
}
