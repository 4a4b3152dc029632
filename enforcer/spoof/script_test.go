package spoof

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	two := []string{"azv0123456789ab", "cali.1-a@b"}
	var many []string
	for i := range maxInterfaces + 1 {
		many = append(many, fmt.Sprint("veth", i))
	}
	return map[string][]string{
		"none.nft": NFTables{}.Script(nil), "two.nft": NFTables{Log: log}.Script(two),
		"two.IPv4.sets": ipFamilies[0].setLines("a", two), "two.IPv6.sets": ipFamilies[1].setLines("a", two), "many.IPv6.sets": ipFamilies[1].setLines("b", many),
		"two.IPv4.rules": ipFamilies[0].chainLines("a", 2, log, false), "two.IPv6.rules": ipFamilies[1].chainLines("a", 2, Log{}, false),
		"none.IPv4.rules": ipFamilies[0].chainLines("b", 0, Log{}, false), "many.IPv6.rules": ipFamilies[1].chainLines("b", len(many), log, true),
	}
}
