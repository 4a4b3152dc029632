package compile

import (
	"testing"

	"github.com/tierwall/tierwall/policy"
)

// clashing are the classes that an attacker who finds two policies of one hash has.
func clashing() map[string]*policy.Class {
	class := func(r policy.Rule, otherwise policy.Verdict) *policy.Class {
		return &policy.Class{ID: "h", Tiers: []policy.Tier{{Name: policy.NetworkPolicyTier, Rules: []policy.Rule{r}, Else: otherwise}}}
	}
	return map[string]*policy.Class{
		"closed":           class(policy.Rule{Verdict: policy.Allow, Peers: []policy.SetID{"p1"}, AnyPort: true}, policy.Deny),
		"other peers":      class(policy.Rule{Verdict: policy.Allow, Peers: []policy.SetID{"p2"}, AnyPort: true}, policy.Deny),
		"open to all":      class(policy.Rule{Verdict: policy.Allow, AnyPeer: true, AnyPort: true}, policy.Deny),
		"another verdict":  class(policy.Rule{Verdict: policy.Deny, AnyPeer: true, AnyPort: true}, policy.Deny),
		"another port":     class(policy.Rule{Verdict: policy.Allow, AnyPeer: true, Ports: []policy.Port{{Protocol: policy.TCP, First: 1, Last: 2}}}, policy.Deny),
		"allowed at last":  class(policy.Rule{Verdict: policy.Allow, Peers: []policy.SetID{"p1"}, AnyPort: true}, policy.Allow),
		"of other objects": class(policy.Rule{ID: policy.RuleID{Name: "x"}, Verdict: policy.Allow, Peers: []policy.SetID{"p1"}, AnyPort: true}, policy.Deny),
		"without a tier":   {ID: "h"},
	}
}

func TestClassesOfOneHashAreNotMerged(t *testing.T) {
	c := newClassifier(policy.Defaults{})
	ids := map[policy.ClassID]string{}
	for name, class := range clashing() {
		id := c.keep(policy.Ingress, class)
		if other := ids[id]; other != "" {
			t.Errorf("%q and %q have the ID %s", name, other, id)
		}
		if class.ID != id || c.built[policy.Ingress].All()[id] != class {
			t.Errorf("%q is not under its ID %s", name, id)
		}
		ids[id] = name
	}
	for name, class := range clashing() {
		if id := c.keep(policy.Ingress, class); ids[id] != name {
			t.Errorf("%q has the ID %s of %q", name, id, ids[id])
		}
	}
}

func TestSetsOfOneHashAreNotMerged(t *testing.T) {
	element := policy.AddressElement(manyAddrs("10.0.0.1")[0])
	element2 := policy.AddressElement(manyAddrs("10.0.0.2")[0])
	definitions := map[string]func() *definition{
		"pods of one namespace": func() *definition { return &definition{pods: &podSelection{namespaces: nameIs("a")}} },
		"pods of another":       func() *definition { return &definition{pods: &podSelection{namespaces: nameIs("b")}} },
		"pods with foreign addresses": func() *definition {
			return &definition{pods: &podSelection{namespaces: nameIs("a"), foreign: true}}
		},
		"a port with foreign addresses": func() *definition {
			return &definition{port: portName{name: "http", protocol: policy.TCP, foreign: true}}
		},
		"all nodes":       func() *definition { return &definition{nodes: &selector{}} },
		"a network":       func() *definition { return &definition{networks: []policy.Element{element}} },
		"another network": func() *definition { return &definition{networks: []policy.Element{element2}} },
		"no network":      func() *definition { return &definition{} },
		"a port":          func() *definition { return &definition{port: portName{name: "http", protocol: policy.TCP}} },
		"a port of UDP":   func() *definition { return &definition{port: portName{name: "http", protocol: policy.UDP}} },
	}
	engine := &commit{Engine: NewEngine("", policy.Defaults{})}
	for compiler, names := range map[string]setNamer{"the whole": newClassifier(policy.Defaults{}), "the engine": engine} {
		ids := map[policy.SetID]string{}
		for name, define := range definitions {
			d := define()
			d.hash = "h"
			id := names.nameSet(d)
			if other := ids[id]; other != "" {
				t.Errorf("%s: %q and %q have the ID %s", compiler, name, other, id)
			}
			ids[id] = name
		}
		for name, define := range definitions {
			d := define()
			d.hash = "h"
			if id := names.nameSet(d); ids[id] != name {
				t.Errorf("%s: %q has the ID %s of %q", compiler, name, id, ids[id])
			}
		}
	}
}
