package revoke

import (
	"testing"

	"github.com/tierwall/tierwall/policy"
)

func TestAClassThatAllowsAllThatAnotherAllowed(t *testing.T) {
	p := &policy.Program{Sets: map[policy.SetID]*policy.Set{"nobody": {ID: "nobody"}}}
	for _, id := range []policy.SetID{"web", "api", "db"} {
		p.Sets[id] = &policy.Set{ID: id, Elements: []policy.Element{policy.AddressElement(addr4(9))}}
	}
	rule := func(v policy.Verdict, peers policy.SetID, ports ...policy.Port) policy.Rule {
		return policy.Rule{Verdict: v, Peers: []policy.SetID{peers}, AnyPort: len(ports) == 0, Ports: ports, ID: policy.RuleID{Name: string(peers)}}
	}
	tier := func(e policy.Verdict, rules ...policy.Rule) policy.Tier { return policy.Tier{Rules: rules, Else: e} }
	class := func(tiers ...policy.Tier) *policy.Class { return &policy.Class{Tiers: tiers} }
	web, api, db := rule(policy.Allow, "web"), rule(policy.Allow, "api"), rule(policy.Allow, "db")
	renamed := web
	renamed.ID.Name = "another policy that says the same"
	anyone := policy.Rule{Verdict: policy.Allow, AnyPeer: true, AnyPort: true}
	toAnyPort, toSome := policy.AllPorts(policy.TCP), policy.Port{Protocol: policy.TCP, First: 80, Last: 80}
	deny, pass := rule(policy.Deny, "web"), rule(policy.Pass, "web")
	for name, c := range map[string]struct {
		before, after *policy.Class
		want          bool
	}{
		"a rule comes":                                      {class(tier(0, web, db)), class(tier(0, web, api, db)), true},
		"a rule goes":                                       {class(tier(0, web, api, db)), class(tier(0, web, db)), false},
		"one that matches nobody":                           {class(tier(0, web, rule(policy.Allow, "nobody"), db)), class(tier(0, web, db)), true},
		"one whose set is not there":                        {class(tier(0, web, rule(policy.Allow, "gone"))), class(tier(0, web)), true},
		"a rule is another policy's":                        {class(tier(0, web)), class(tier(0, renamed)), true},
		"a rule is exchanged":                               {class(tier(0, web)), class(tier(0, api)), false},
		"a port goes":                                       {class(tier(0, rule(policy.Allow, "web", toAnyPort, toSome))), class(tier(0, rule(policy.Allow, "web", toAnyPort))), false},
		"a rule is not understood any more":                 {class(tier(0, web)), class(tier(0, policy.Rule{Verdict: policy.Allow, Peers: web.Peers})), false},
		"isolated from now on":                              {class(tier(policy.Allow)), class(tier(0, web)), false},
		"isolated no more":                                  {class(tier(0, web)), class(tier(policy.Allow)), true},
		"anyone may":                                        {class(tier(0, web, api)), class(tier(0, anyone)), true},
		"anyone may, but for some":                          {class(tier(0, web, api)), class(tier(0, deny, anyone)), false},
		"anyone may who is let pass by a tier before":       {class(tier(0, web)), class(tier(policy.Pass), tier(0, anyone)), true},
		"and by one that denies some":                       {class(tier(0, web)), class(tier(policy.Pass, deny), tier(0, anyone)), false},
		"anyone may in a tier that nobody gets to":          {class(tier(0, web)), class(tier(0, api), tier(0, anyone)), false},
		"nobody might":                                      {class(tier(0)), class(tier(0, deny, web)), true},
		"nobody might by any tier":                          {class(tier(policy.Pass, deny), tier(0, pass)), class(tier(0, api)), true},
		"all might by the last tier":                        {class(tier(policy.Pass), tier(policy.Allow)), class(tier(policy.Pass), tier(0, web)), false},
		"a rule comes, and one that denies is as it was":    {class(tier(policy.Pass, deny), tier(0, api)), class(tier(policy.Pass, deny), tier(0, api, db)), true},
		"a rule comes where some are denied":                {class(tier(policy.Pass, deny, api), tier(policy.Allow)), class(tier(policy.Pass, deny, api, db), tier(policy.Allow)), false},
		"a rule that denies comes":                          {class(tier(0, api)), class(tier(0, deny, api)), false},
		"a rule that passes comes":                          {class(tier(0, api), tier(0)), class(tier(0, pass, api), tier(0)), false},
		"a rule that denies comes where it did not matter":  {class(tier(0, web, api)), class(tier(0, web, deny, api)), false},
		"what no rule matches is let pass no more":          {class(tier(policy.Pass, web), tier(policy.Allow)), class(tier(policy.Deny, web), tier(policy.Allow)), false},
		"a rule that denies nobody yet is no rule of those": {class(tier(policy.Pass, rule(policy.Deny, "nobody")), tier(0, web)), class(tier(policy.Pass), tier(0, web)), false},
		"a tier comes":                                      {class(tier(0, web)), class(tier(policy.Pass), tier(0, web)), false},
		"no class":                                          {nil, class(tier(0, web)), true},
		"no class any more":                                 {class(tier(0, web)), nil, false},
	} {
		if got := isWider(p, c.before, c.after); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
