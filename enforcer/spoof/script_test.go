package spoof

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// TestGolden shows what a person sees. TIERWALL_UPDATE=1 writes the files anew.
func TestGolden(t *testing.T) {
	log := Log{Group: 4741, Prefix: "tierwall-spoofed", PerSecond: 10}
	for name, lines := range goldens(log) {
		path := filepath.Join("testdata", name)
		got := strings.Join(lines, "\n") + "\n"
		if os.Getenv("TIERWALL_UPDATE") != "" {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is not as before; it now is\n%s", name, got)
		}
	}
}

// goldens are what the tools read, by the name of the file.
func goldens(log Log) map[string][]string {
	two := Interfaces{Own: []string{"azv0123456789ab", "cali.1-a@b"}}
	bridged := Interfaces{Own: []string{"veth0"}, Shared: []string{"cni0"}, New: []string{"veth1"},
		Tunnels: []Tunnel{{Protocol: 4}, {policy.UDP, 8472}}}
	var many Interfaces
	for i := range maxInterfaces + 1 {
		many.Own = append(many.Own, fmt.Sprint("veth", i))
	}
	plain, logged := IPTables{}, IPTables{Log: log}
	return map[string][]string{
		"none.nft": NFTables{}.Script(Interfaces{}), "two.nft": NFTables{Log: log}.Script(two), "bridged.nft": NFTables{}.Script(bridged),
		"anysource.nft": NFTables{AnySource: true}.Script(bridged),
		"two.IPv4.sets": ipFamilies[0].setLines("a", two), "two.IPv6.sets": ipFamilies[1].setLines("a", two), "many.IPv6.sets": ipFamilies[1].setLines("b", many),
		"bridged.IPv6.sets": ipFamilies[1].setLines("a", bridged),
		"two.IPv4.rules":    logged.chainLines(ipFamilies[0], "a", two, hookRules), "two.IPv6.rules": plain.chainLines(ipFamilies[1], "a", two, hookRules),
		"none.IPv4.rules": plain.chainLines(ipFamilies[0], "b", Interfaces{}, hookRules), "many.IPv6.rules": logged.chainLines(ipFamilies[1], "b", many, nil),
		"bridged.IPv4.rules": plain.chainLines(ipFamilies[0], "a", bridged, hookRules), "bridged.IPv6.rules": plain.chainLines(ipFamilies[1], "a", bridged, hookRules[1:]),
		"anysource.IPv6.rules": IPTables{AnySource: true}.chainLines(ipFamilies[1], "a", bridged, hookRules),
	}
}
