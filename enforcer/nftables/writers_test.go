//go:build netns

package nftables

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/internal/sample"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// viaNft has nft carry out what the kernel could be asked for.
type viaNft struct{ kernel }

func (k viaNft) Run(ctx context.Context, t *transaction, known uint32) (uint32, bool, error) {
	slow := *t
	slow.direct = false
	return k.kernel.Run(ctx, &slow, known)
}

// watched counts the transactions that a change takes, by who carries them out.
type watched struct {
	kernel
	direct, tool int
}

func (k *watched) Run(ctx context.Context, t *transaction, known uint32) (uint32, bool, error) {
	if _, ok := t.encodeBatch(); t.direct && ok {
		k.direct++
	} else if t.direct {
		k.tool++
	}
	return k.kernel.Run(ctx, t, known)
}

// pair are two nodes that get the same programs, one without nft and the other by it alone.
type pair struct {
	direct, tool node
	of           [2]*Backend
	watched      *watched
}

func newPair(t testing.TB, log ruletext.DenyLog) pair {
	p := pair{direct: newLoggingNode(t, log), tool: newLoggingNode(t, log)}
	p.of = [2]*Backend{p.direct.Open(), p.tool.Open()}
	p.watched = &watched{kernel: p.of[0].kernel}
	p.of[0].kernel, p.of[1].kernel = p.watched, viaNft{p.of[1].kernel}
	return p
}

func (p pair) apply(t testing.TB, next *policy.Program) {
	t.Helper()
	p.direct.Apply(p.of[0], next)
	p.tool.Apply(p.of[1], next)
}

// compare sees that both kernels hold the same, as nft lists it in both of its forms, and to the byte.
func (p pair) compare(t testing.TB) {
	t.Helper()
	for what, of := range map[string]func(node) string{"nft lists": node.listed, "nft lists as JSON": node.json, "the kernel has": node.raw} {
		if direct, tool := of(p.direct), of(p.tool); direct != tool {
			t.Fatalf("%s\n%s\nwhere nft wrote\n%s", what, differing(direct, tool), differing(tool, direct))
		}
	}
}

// differing are the lines of a text that another has not.
func differing(text, other string) string {
	there := strings.Split(other, "\n")
	return strings.Join(slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return slices.Contains(there, line) }), "\n")
}

func (n node) listed() string {
	n.T.Helper()
	return sortElements(n.Run(n.T, "nft", "list", "table", "inet", tableName))
}

var elementsOf = regexp.MustCompile(`(?s)elements = \{.*?\}\n`)

// sortElements puts those of each set in one order: that of a hash is the kernel's own.
func sortElements(text string) string {
	return elementsOf.ReplaceAllStringFunc(text, func(list string) string {
		elements := strings.Split(strings.TrimSpace(list[len("elements = {"):strings.LastIndex(list, "}")]), ",")
		for i := range elements {
			elements[i] = strings.TrimSpace(elements[i])
		}
		slices.Sort(elements)
		return strings.Join(elements, "\n") + "\n"
	})
}

var handle = regexp.MustCompile(`"handle": \d+`)

func (n node) json() string {
	n.T.Helper()
	text := handle.ReplaceAllString(n.Run(n.T, "nft", "--json", "--numeric", "list", "table", "inet", tableName), `"handle": 0`)
	l, err := parseListing([]byte(text))
	if err != nil {
		n.T.Fatal(err)
	}
	var out []string
	for name, c := range l.chains {
		out = append(out, fmt.Sprintf("%s: %+v", name, c))
	}
	for name, s := range l.sets {
		out = append(out, fmt.Sprintf("%s: %s %v %v", name, s.Type, s.Interval, s.Map))
		for k, e := range s.Elements {
			out = append(out, fmt.Sprintf("%s: %s %+v", name, k, e))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// raw is what the kernel says of chains, rules, sets and elements, but for the numbers and
// statistics that are its own, and for what some versions of nft note about sets for themselves.
func (n node) raw() string {
	n.T.Helper()
	var out []string
	n.Must(func() error {
		for i, rule := range n.ask(unix.NFT_MSG_GETRULE, "") {
			out = append(out, fmt.Sprintf("rule %04d %s %x %x", i, name(rule[unix.NFTA_RULE_CHAIN]), rule[unix.NFTA_RULE_EXPRESSIONS], rule[unix.NFTA_RULE_USERDATA]))
		}
		for _, chain := range n.ask(unix.NFT_MSG_GETCHAIN, "") {
			for _, own := range []uint16{unix.NFTA_CHAIN_HANDLE, unix.NFTA_CHAIN_USE} {
				delete(chain, own)
			}
			out = append(out, fmt.Sprintf("chain %s %s", name(chain[unix.NFTA_CHAIN_NAME]), attributesText(chain)))
		}
		for _, set := range n.ask(unix.NFT_MSG_GETSET, "") {
			set[unix.NFTA_SET_USERDATA] = set[unix.NFTA_SET_USERDATA][:6] // the order of a key's bytes
			for own := range set {
				if own == setHandle || own > setHandle {
					delete(set, own)
				}
			}
			of := name(set[unix.NFTA_SET_NAME])
			out = append(out, fmt.Sprintf("set %s %s", of, attributesText(set)))
			for _, part := range n.ask(unix.NFT_MSG_GETSETELEM, of) {
				list, err := nl.ParseRouteAttr(part[unix.NFTA_SET_ELEM_LIST_ELEMENTS])
				if err != nil {
					return err
				}
				for _, e := range list {
					out = append(out, fmt.Sprintf("element %s %x", of, e.Value))
				}
			}
		}
		return nil
	})
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// setHandle is NFTA_SET_HANDLE; what comes after it are expressions, types and counts.
const setHandle = 16

func name(text []byte) string { return strings.TrimRight(string(text), "\x00") }

func attributesText(a map[uint16][]byte) string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(a)) {
		out = append(out, fmt.Sprintf("%d:%x", kind, a[kind]))
	}
	return strings.Join(out, " ")
}

// attributeType is the type of an attribute without its flags.
const attributeType = 1<<14 - 1

// ask dumps the objects of our table of a kind, or the elements of a set.
func (n node) ask(kind int, set string) []map[uint16][]byte {
	n.T.Helper()
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_DUMP)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET, Version: nl.NFNETLINK_V0})
	r.AddData(nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_TABLE, nl.ZeroTerminated(tableName))) // and of the other kinds
	if set != "" {
		r.AddData(nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_SET, nl.ZeroTerminated(set)))
	}
	answers, err := r.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		n.T.Fatal(err)
	}
	var out []map[uint16][]byte
	for _, a := range answers {
		list, err := nl.ParseRouteAttr(a[nl.SizeofNfgenmsg:])
		if err != nil {
			n.T.Fatal(err)
		}
		all := map[uint16][]byte{}
		for _, one := range list {
			all[one.Attr.Type&attributeType] = one.Value
		}
		if name(all[unix.NFTA_SET_ELEM_LIST_TABLE]) == tableName {
			out = append(out, all)
		}
	}
	return out
}

// bare is a program without its endpoints, so that the way to the program is a change.
func bare(p *policy.Program) *policy.Program {
	out := &policy.Program{Hosts: p.Hosts, Local: p.Local, Unknown: p.Unknown, Classes: [2]map[policy.ClassID]*policy.Class{{}, {}}}
	for _, f := range familiesOf(p) {
		a := address("203.0.113.77")
		if f == ipv6 {
			a = address("2001:db8::77")
		}
		out.Endpoints = append(out.Endpoints, policy.Endpoint{Namespace: "bare", Name: a.String(), Addrs: []netip.Addr{a}})
	}
	return out
}

// What the kernel holds does not depend on who wrote it.
func TestBothWritersMakeTheSame(t *testing.T) {
	all := goldens()
	for i, p := range programs(12) {
		all[fmt.Sprint("program ", i)] = p
	}
	for name, p := range all {
		t.Run(name, func(t *testing.T) {
			nodes := newPair(t, backendtest.GoldenLog(name))
			nodes.apply(t, bare(p))
			nodes.compare(t)
			for range 2 {
				nodes.apply(t, p)
				nodes.compare(t)
				nodes.apply(t, bare(p))
				nodes.compare(t)
			}
			// The first program has rules that only nft can say.
			if w := nodes.watched; w.tool > 1 || w.direct == 0 && len(p.Endpoints) > 0 {
				t.Errorf("%d transactions without nft, and %d took it", w.direct, w.tool)
			}
		})
	}
}

func TestBothWritersMakeTheSameOfRandomChanges(t *testing.T) {
	direct := 0
	for seed := range uint64(12) {
		w := sample.NewWorld(seed)
		d := w.Draft()
		nodes := newPair(t, ruletext.DenyLog{PerSecond: int(seed % 2)})
		nodes.apply(t, w.Program(d))
		for range 12 {
			d = w.Changes(d)
			nodes.apply(t, w.Program(d))
			nodes.compare(t)
		}
		if nodes.watched.tool > 1 {
			t.Errorf("seed %d: %d transactions took nft", seed, nodes.watched.tool)
		}
		direct += nodes.watched.direct
		for i, n := range []node{nodes.direct, nodes.tool} {
			if n.Repair(nodes.of[i]) {
				t.Errorf("seed %d: the kernel is not as written", seed)
			}
		}
		nodes.compare(t)
	}
	if direct < 100 {
		t.Errorf("only %d transactions without nft", direct)
	}
}
