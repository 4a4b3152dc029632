package explain_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tierwall/tierwall/cli/explain"
	"github.com/tierwall/tierwall/cli/manifest"
	"github.com/tierwall/tierwall/cli/state"
	"github.com/tierwall/tierwall/policy"
)

// topology is workloads and policies, with all connections that are allowed between them. They are built in the
// image of the test folders that np-guard's netpol-analyzer publishes with their expected connections.
//
// That tool's expectations differ in these respects. It applies policies to pods on the host network, which have no
// address of their own. It has connections of pods that have ended. It accepts names and fields that the API server refuses.
type topology struct {
	// pods are such as "shop/web app=web http=8080": namespace and name, labels, and ports, which are numbers.
	pods []string
	// namespaces are such as "shop env=prod".
	namespaces []string
	policies   string
	// ask are the ports in question.
	ask []string
	// want are such as "shop/web > shop/api 8080/TCP"; all others are denied.
	want []string
}

var topologies = map[string]topology{
	"three tiers in a chain": {
		pods: []string{"shop/web app=web", "shop/api app=api", "shop/db app=db"},
		policies: `
- {name: shop/all, podSelector: {}, policyTypes: [Ingress, Egress]}
- {name: shop/web, podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 8080}]}]}
- {name: shop/api, podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}]}], egress: [{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 5432}]}]}
- {name: shop/db, podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]}
`,
		ask:  []string{"8080/TCP", "5432/TCP", "8080/UDP"},
		want: []string{"shop/web > shop/api 8080/TCP", "shop/api > shop/db 5432/TCP"},
	},
	"one side allows, the other does not": {
		pods: []string{"a/p app=p", "a/q app=q", "a/r app=r"},
		policies: `
- {name: a/p, podSelector: {matchLabels: {app: p}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: q}}}]}]}
- {name: a/q, podSelector: {matchLabels: {app: q}}, ingress: [{from: [{podSelector: {matchLabels: {app: r}}}]}]}
`,
		ask:  []string{"80/TCP"},
		want: []string{"a/r > a/q 80/TCP", "a/q > a/p 80/TCP", "a/q > a/r 80/TCP", "a/r > a/p 80/TCP"},
	},
	"a port by name is another at each pod": {
		pods: []string{"h/client app=client", "h/new app=server http=8080", "h/old app=server http=80", "h/none app=server"},
		policies: `
- {name: h/server, podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress, Egress], ingress: [{ports: [{port: http}]}]}
- {name: h/client, podSelector: {matchLabels: {app: client}}, policyTypes: [Ingress]}
`,
		ask:  []string{"80/TCP", "8080/TCP"},
		want: []string{"h/client > h/new 8080/TCP", "h/client > h/old 80/TCP"},
	},
	"a name of another protocol": {
		pods: []string{"h/client app=client", "h/dns app=dns dns=53/UDP"},
		policies: `
- {name: h/dns, podSelector: {matchLabels: {app: dns}}, ingress: [{ports: [{port: dns, protocol: UDP}, {port: dns, protocol: TCP}]}]}
- {name: h/closed, podSelector: {matchLabels: {app: client}}}
`,
		ask:  []string{"53/TCP", "53/UDP"},
		want: []string{"h/client > h/dns 53/UDP"},
	},
	"ranges, and protocols that are not the same": {
		pods: []string{"r/a app=a", "r/b app=b"},
		policies: `
- {name: r/b, podSelector: {matchLabels: {app: b}}, ingress: [{ports: [{port: 8000, endPort: 8010}, {protocol: UDP}, {port: 9000, protocol: SCTP}]}]}
- {name: r/a, podSelector: {matchLabels: {app: a}}}
`,
		ask:  []string{"7999/TCP", "8000/TCP", "8010/TCP", "8011/TCP", "1/UDP", "9000/SCTP", "9000/TCP"},
		want: []string{"r/a > r/b 8000/TCP", "r/a > r/b 8010/TCP", "r/a > r/b 1/UDP", "r/a > r/b 9000/SCTP"},
	},
	"namespaces by label and pods in them": {
		pods:       []string{"prod/db app=db", "prod/web app=web", "test/web app=web", "ops/prom app=prom"},
		namespaces: []string{"prod env=prod", "test env=test", "ops team=ops"},
		policies: `
- {name: prod/db, podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {matchLabels: {env: test}}, podSelector: {matchLabels: {app: web}}}]}, {from: [{namespaceSelector: {matchLabels: {team: ops}}}], ports: [{port: 9187}]}, {from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}}], ports: [{port: 5432}]}]}
- {name: prod/web, podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
- {name: test/closed, podSelector: {}, policyTypes: [Ingress]}
- {name: ops/closed, podSelector: {}, policyTypes: [Ingress]}
`,
		ask:  []string{"5432/TCP", "9187/TCP"},
		want: []string{"test/web > prod/db 5432/TCP", "test/web > prod/db 9187/TCP", "ops/prom > prod/db 9187/TCP", "prod/web > prod/db 5432/TCP"},
	},
	"a peer that is missing, and one that is empty": {
		pods: []string{"e/any app=any", "e/own app=own", "f/out app=out"},
		policies: `
- {name: e/any, podSelector: {matchLabels: {app: any}}, policyTypes: [Ingress, Egress], ingress: [{from: []}]}
- {name: e/own, podSelector: {matchLabels: {app: own}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}]}], egress: [{to: [{podSelector: {}}]}]}
- {name: f/out, podSelector: {}, policyTypes: [Ingress]}
`,
		ask:  []string{"80/TCP"},
		want: []string{"e/own > e/any 80/TCP", "f/out > e/any 80/TCP"},
	},
	"expressions on labels that are there or not": {
		pods: []string{"g/old app=v stage=old", "g/new app=v stage=new", "g/bare app=v", "g/to app=to"},
		policies: `
- {name: g/to, podSelector: {matchLabels: {app: to}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchExpressions: [{key: stage, operator: NotIn, values: [old]}]}}], ports: [{port: 1}]}, {from: [{podSelector: {matchExpressions: [{key: stage, operator: Exists}]}}], ports: [{port: 2}]}, {from: [{podSelector: {matchExpressions: [{key: stage, operator: DoesNotExist}]}}], ports: [{port: 3}]}, {from: [{podSelector: {matchExpressions: [{key: stage, operator: In, values: [old, new]}, {key: app, operator: In, values: [v]}]}}], ports: [{port: 4}]}]}
- {name: g/v, podSelector: {matchLabels: {app: v}}}
`,
		ask: []string{"1/TCP", "2/TCP", "3/TCP", "4/TCP", "5/TCP"},
		want: []string{"g/new > g/to 1/TCP", "g/bare > g/to 1/TCP", "g/old > g/to 2/TCP", "g/new > g/to 2/TCP",
			"g/bare > g/to 3/TCP", "g/old > g/to 4/TCP", "g/new > g/to 4/TCP"},
	},
	"several policies for one pod add up": {
		pods: []string{"m/a app=a", "m/b app=b", "m/c app=c tier=x"},
		policies: `
- {name: m/none, podSelector: {}}
- {name: m/from-a, podSelector: {matchLabels: {app: c}}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}]}
- {name: m/from-b, podSelector: {matchLabels: {tier: x}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 81}]}]}
`,
		ask:  []string{"80/TCP", "81/TCP"},
		want: []string{"m/a > m/c 80/TCP", "m/b > m/c 81/TCP"},
	},
	"egress alone says nothing of ingress": {
		pods: []string{"d/p app=p", "d/q app=q"},
		policies: `
- {name: d/p, podSelector: {matchLabels: {app: p}}, policyTypes: [Egress], egress: []}
`,
		ask:  []string{"80/TCP", "53/UDP"},
		want: []string{"d/q > d/p 80/TCP", "d/q > d/p 53/UDP"},
	},
}

func (tp topology) facts(t *testing.T) *explain.Facts {
	t.Helper()
	var text strings.Builder
	for _, n := range tp.namespaces {
		name, labels, _ := strings.Cut(n, " ")
		fmt.Fprintf(&text, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s}}\n", name, strings.Replace(labels, "=", ": ", 1))
	}
	for _, p := range tp.pods {
		fields := strings.Fields(p)
		namespace, name, _ := strings.Cut(fields[0], "/")
		var labels, ports []string
		for _, f := range fields[1:] {
			key, value, _ := strings.Cut(f, "=")
			number, protocol, _ := strings.Cut(value, "/")
			if strings.Trim(number, "0123456789") != "" {
				labels = append(labels, key+": "+value)
				continue
			}
			if protocol == "" {
				protocol = "TCP"
			}
			ports = append(ports, fmt.Sprintf("{name: %s, containerPort: %s, protocol: %s}", key, number, protocol))
		}
		fmt.Fprintf(&text, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s, namespace: %s}\nspec: {replicas: 1, selector: {}, template: {metadata: {labels: {%s}}, spec: {containers: [{name: c, image: x, ports: [%s]}]}}}\n",
			name, namespace, strings.Join(labels, ", "), strings.Join(ports, ", "))
	}
	for line := range strings.Lines(tp.policies) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		head, spec, _ := strings.Cut(strings.TrimPrefix(line, "- {name: "), ", ")
		namespace, name, _ := strings.Cut(head, "/")
		fmt.Fprintf(&text, "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s, namespace: %s}\nspec: {%s\n", name, namespace, spec)
	}
	return factsOfText(t, text.String(), policy.Allow)
}

// factsOfText are the facts of a folder with the text.
func factsOfText(t *testing.T, text string, action policy.Verdict) *explain.Facts {
	t.Helper()
	read, errs := manifest.Reader{Namespace: "default", Stdin: strings.NewReader(text)}.Read("-")
	if len(errs) > 0 {
		t.Fatalf("%v\n%s", errs, text)
	}
	objects := map[state.Key]client.Object{}
	for _, o := range read {
		for _, v := range []client.Object{o.Value, o.Context} {
			if v != nil {
				objects[state.KeyOf(o.Kind, v)] = v
			}
		}
	}
	return explain.NewFacts(state.State{}.With(objects), policy.Defaults{Action: action}, explain.Networks{}, false)
}

// What explain says of every pair of workloads and every port is what is expected of the topology.
func TestConnectionsOfTopologies(t *testing.T) {
	for name, tp := range topologies {
		facts := tp.facts(t)
		var got []string
		for _, a := range tp.pods {
			for _, b := range tp.pods {
				from, to := strings.Fields(a)[0], strings.Fields(b)[0]
				if from == to {
					continue
				}
				for _, port := range tp.ask {
					switch r := question(t, facts, from, to, port); r.Verdict {
					case "allowed":
						got = append(got, fmt.Sprintf("%s > %s %s", from, to, port))
					case "denied":
					default:
						t.Errorf("%s: %s > %s %s: %s", name, from, to, port, r.Verdict)
					}
				}
			}
		}
		want := map[string]bool{}
		for _, w := range tp.want {
			want[w] = true
		}
		slices.Sort(got)
		if expected := slices.Sorted(maps.Keys(want)); !slices.Equal(got, expected) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(expected, "\n"))
		}
	}
}
