package backendtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tierwall/tierwall/enforcer/ruletext"
)

// VerifyGolden compares a text with a file of testdata, which shows what a person sees. TIERWALL_UPDATE=1 writes it anew.
func VerifyGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
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

// GoldenLog returns what the golden files of a program log.
func GoldenLog(name string) (log ruletext.DenyLog) {
	if name == "logged" || name == "audited" {
		log = ruletext.DenyLog{Group: 4741, Prefix: "tierwall", PerSecond: 100}
	}
	if name == "audited" {
		log.AuditPrefix, log.AuditPerSecond = [2]string{"tierwall-audit-ingress", "tierwall-audit-egress"}, 10
	}
	return log
}
