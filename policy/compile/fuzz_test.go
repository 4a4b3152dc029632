package compile_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/tierwall/tierwall/policy"
	"github.com/tierwall/tierwall/policy/compile"
	"github.com/tierwall/tierwall/policy/eval"
	"github.com/tierwall/tierwall/test/generate"
	"github.com/tierwall/tierwall/test/oracle"
)

// FuzzCompile gives the compiler any JSON for a NetworkPolicy or a ClusterNetworkPolicy. It must
// agree with the oracle, and what is broken must allow nothing that the rest does not.
func FuzzCompile(f *testing.F) {
	for seed := range uint64(60) {
		s := generate.Cluster(generate.NewRand(seed), generate.Small)
		for _, np := range s.NetworkPolicies {
			f.Add(false, seed, encode(f, np.Spec))
		}
		for _, cnp := range s.ClusterNetworkPolicies {
			f.Add(true, seed, encode(f, cnp.Spec))
		}
	}
	f.Fuzz(func(t *testing.T, ofCluster bool, seed uint64, spec []byte) {
		s := world()
		if ofCluster {
			cnp := &policyv1alpha2.ClusterNetworkPolicy{}
			if json.Unmarshal(spec, &cnp.Spec) != nil {
				return
			}
			cnp.Name = "fuzz"
			s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, cnp)
		} else {
			np := &networkingv1.NetworkPolicy{}
			if json.Unmarshal(spec, &np.Spec) != nil {
				return
			}
			np.Namespace, np.Name = "prod", "fuzz"
			s.NetworkPolicies = append(s.NetworkPolicies, np)
		}
		program, problems := compile.Compile(s, "")
		flows := generate.Flows(generate.NewRand(seed), s, 100)
		allowed := decisions(program, flows)
		objects := generate.Objects(generate.NewRand(seed), s)
		for i, flow := range flows {
			if allowed[i] != (oracle.Decide(objects, flow) == policy.Allow) {
				t.Fatalf("%+v: allowed is %v, against the API text\n%s", flow, allowed[i], program)
			}
		}
		for _, problem := range problems {
			rest := without(s, problem.ID.Field)
			program, _ := compile.Compile(rest, "")
			for i, ok := range decisions(program, flows) {
				if allowed[i] && !ok {
					t.Fatalf("%v: yet it allows %+v, and without it that is denied", problem, flows[i])
				}
			}
		}
	})
}

func encode(f *testing.F, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		f.Fatal(err)
	}
	return text
}

func decisions(p *policy.Program, flows []policy.Flow) []bool {
	e := eval.New(p)
	out := make([]bool, len(flows))
	for i, f := range flows {
		out[i] = e.Decide(f).Verdict == policy.Allow
	}
	return out
}

// without is the snapshot without what is broken at the field: a peer, a port, a rule, or when
// it is none of them the policy.
func without(s *compile.Snapshot, field string) *compile.Snapshot {
	rest := *s
	path := strings.Split(strings.TrimPrefix(field, "/"), "/") // spec, ingress, 0, from, 0, …
	if len(path) < 3 || path[1] != "ingress" && path[1] != "egress" {
		rest.NetworkPolicies, rest.ClusterNetworkPolicies = nil, nil
		return &rest
	}
	i := number(path[2])
	for _, np := range s.NetworkPolicies {
		np = np.DeepCopy()
		rest.NetworkPolicies = []*networkingv1.NetworkPolicy{np}
		removeFromPolicy(&np.Spec, path, i)
	}
	for _, cnp := range s.ClusterNetworkPolicies {
		cnp = cnp.DeepCopy()
		rest.ClusterNetworkPolicies = []*policyv1alpha2.ClusterNetworkPolicy{cnp}
		if path[1] == "ingress" {
			cnp.Spec.Ingress = slices.Delete(cnp.Spec.Ingress, i, i+1)
		} else {
			cnp.Spec.Egress = slices.Delete(cnp.Spec.Egress, i, i+1)
		}
	}
	return &rest
}

func removeFromPolicy(spec *networkingv1.NetworkPolicySpec, path []string, i int) {
	j := number(path[4])
	if path[1] == "ingress" {
		r := &spec.Ingress[i]
		if emptied := removeItem(&r.From, &r.Ports, path[3], j); emptied {
			spec.Ingress = slices.Delete(spec.Ingress, i, i+1)
		}
		return
	}
	r := &spec.Egress[i]
	if emptied := removeItem(&r.To, &r.Ports, path[3], j); emptied {
		spec.Egress = slices.Delete(spec.Egress, i, i+1)
	}
}

func removeItem(peers *[]networkingv1.NetworkPolicyPeer, ports *[]networkingv1.NetworkPolicyPort, list string, j int) (emptied bool) {
	if list == "ports" {
		*ports = slices.Delete(*ports, j, j+1)
		return len(*ports) == 0
	}
	*peers = slices.Delete(*peers, j, j+1)
	return len(*peers) == 0
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}
