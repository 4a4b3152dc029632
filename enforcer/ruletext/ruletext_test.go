package ruletext

import (
	"testing"

	"github.com/tierwall/tierwall/policy"
)

func TestSanitizeReplacesAllButSafeBytes(t *testing.T) {
	for text, want := range map[string]string{"prod/web-1": "prod/web-1", "a\"b\nc": "a_b_c", "ü'$(x)": "____x_", "": ""} {
		if got := Sanitize(text, "-/"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestRatesOfADenyLog(t *testing.T) {
	if _, ok := (DenyLog{}).Denied(); ok {
		t.Error("the zero value logs denials")
	}
	l := DenyLog{Group: 7, Prefix: "deny\"", PerSecond: 3, AuditPrefix: [2]string{"in", "out"}}
	if got, ok := l.Denied(); !ok || got != (Rate{Group: 7, Prefix: "deny_", PerSecond: 3, Burst: 6}) {
		t.Errorf("denials %+v, %v", got, ok)
	}
	if _, ok := l.Audited(policy.Egress); ok {
		t.Error("what Audit lets pass is logged without a rate")
	}
	l.AuditPerSecond = 1
	if got, ok := l.Audited(policy.Egress); !ok || got != (Rate{Group: 7, Prefix: "out", PerSecond: 1, Burst: 2}) {
		t.Errorf("audits %+v, %v", got, ok)
	}
}
