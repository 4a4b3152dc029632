package rego

import (
	"strings"
	"testing"

	"github.com/tierwall/tierwall/api/v1alpha1"
)

func tested(tests string) option {
	return func(g *v1alpha1.Guardrail) {
		g.Spec.Tests = "package tierwall.guardrails.own_test\n\nimport data.tierwall.guardrails.own\n\n" + tests
	}
}

func TestTheTestsOfAGuardrailAreRun(t *testing.T) {
	const rules = `deny contains "no" if input.object.metadata.name == "bad"`
	const passing = `test_bad if count(own.deny) == 1 with input as {"object": {"metadata": {"name": "bad"}}}`
	if errs := Validate(t.Context(), ownRego("own", rules, tested(passing)), nil); len(errs) > 0 {
		t.Error(errs)
	}
	elsewhere := func(g *v1alpha1.Guardrail) {
		g.Spec.Tests = "package tierwall.guardrails.own\n\ndeny contains \"shadow\"\n\ntest_bad if count(deny) == 1"
	}
	for want, tests := range map[string]option{
		"own_test.rego:5:1: test_bad failed":                         tested(`test_bad if count(own.deny) == 1`),
		"own_test.rego:5:":                                           tested(`test_bad if {`),
		"there are no tests":                                         tested("bad if own.deny"),
		"package is tierwall.guardrails.own; want":                   elsewhere,
		"undefined function http.send":                               tested(`test_bad if own.deny == http.send({"method": "get", "url": "http://192.0.2.1"})`),
		"the tests took longer than 2s":                              tested("test_bad if {\n\tcount(own.deny) == 0\n" + strings.TrimPrefix(endless, "deny contains \"no\" if {\n")),
		"data.tierwall.guardrails.other.x is not for this guardrail": tested(`test_bad if count(own.deny) == data.tierwall.guardrails.other.x`),
		"own_test.rego:5:1: todo_test_bad was skipped":               tested("todo_test_bad if own.deny\n\n" + passing),
	} {
		errs := Validate(t.Context(), ownRego("own", rules, tests), nil)
		if len(errs) != 1 || errs[0].Field != "spec.tests" || !strings.Contains(errs[0].Detail, want) {
			t.Errorf("%v; want %s", errs, want)
		}
	}
}
