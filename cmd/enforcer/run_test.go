package main

import (
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// Audit without reports would be Allow.
func TestWhatIsAuditedIsLoggedInAnyCase(t *testing.T) {
	audit := policy.Defaults{Namespaces: map[string]policy.Verdict{"prod": policy.Audit}}
	for _, c := range []struct {
		defaults         policy.Defaults
		logDenials, want int
	}{
		{policy.Defaults{Action: policy.Deny}, 0, 0},
		{policy.Defaults{Action: policy.Deny}, 50, 0},
		{audit, 0, standardAudits},
		{audit, 50, 50},
	} {
		if got := auditRate(c.defaults, c.logDenials); got != c.want {
			t.Errorf("%+v with %d denials a second: %d audits, want %d", c.defaults, c.logDenials, got, c.want)
		}
	}
}
