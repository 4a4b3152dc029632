package compile

import (
	"fmt"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tierwall/tierwall/policy"
)

// An engine that runs for months must not keep what has gone.
func TestTheEngineForgetsWhatHasGone(t *testing.T) {
	for _, node := range []string{"", "node-1"} {
		s := town(120, 30, 4)
		e := NewEngine(node, s.Defaults)
		u := s.Update()
		e.Commit(u)
		program := e.Program()
		if len(program.Endpoints) == 0 || len(program.Sets) == 0 {
			t.Fatalf("node %q: nothing to forget", node)
		}
		c := e.Commit(&Update{Pods: gone(u.Pods), Namespaces: gone(u.Namespaces), Nodes: gone(u.Nodes),
			NetworkPolicies: gone(u.NetworkPolicies), TierRoles: gone(u.TierRoles)})
		if len(c.EndpointsGone) != len(program.Endpoints) || len(c.SetsGone) != len(program.Sets) || len(c.Members) > 0 {
			t.Errorf("node %q: %d endpoints and %d sets gone, %d sets changed; there were %d and %d",
				node, len(c.EndpointsGone), len(c.SetsGone), len(c.Members), len(program.Endpoints), len(program.Sets))
		}
		empty := NewEngine(node, s.Defaults)
		empty.Commit(&Update{})
		if got, want := holds(reflect.ValueOf(*e)), holds(reflect.ValueOf(*empty)); got != want {
			t.Errorf("node %q: the engine still holds %s", node, got)
		}
	}
}

func gone[O any](objects Objects[O]) Objects[O] {
	out := Objects[O]{}
	for key := range objects {
		out.Set(key, nil)
	}
	return out
}

// holds tells of every map in the value how much is in it.
func holds(v reflect.Value) (out string) {
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch f.Kind() {
		case reflect.Map:
			out += fmt.Sprintf("%s: %d ", name, f.Len())
		case reflect.Struct:
			out += name + "{" + holds(f) + "} "
		case reflect.Array:
			for d := range f.Len() {
				out += name + "{" + holds(f.Index(d)) + "} "
			}
		}
	}
	return out
}

// What a commit tells must not reach further than what it is about.
func TestAPodThatPolicyKnowsChangesItsSetsAlone(t *testing.T) {
	s := town(1000, 100, 10)
	e := NewEngine("node-1", s.Defaults)
	e.Commit(s.Update())
	moved := *s.Pods[20]
	moved.Addrs = moved.Addrs[:1]
	c := e.Commit(&Update{Pods: Objects[Pod]{types.NamespacedName{Namespace: moved.Namespace, Name: moved.Name}: &moved}})
	if len(c.Sets)+len(c.SetsGone)+len(c.Endpoints)+len(c.EndpointsGone) > 0 || c.Frame != nil || len(c.Members) == 0 {
		t.Errorf("a pod elsewhere loses an address: %+v", c)
	}
	for _, m := range c.Members {
		if len(m.Added) != 0 || len(m.Removed) != 1 || m.Removed[0].Prefix != policy.AddressElement(s.Pods[20].Addrs[1]).Prefix {
			t.Errorf("set %s: added %v, removed %v", m.ID, m.Added, m.Removed)
		}
	}
}
