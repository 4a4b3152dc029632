package differential

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/knftables"

	"github.com/tierwall/tierwall/enforcer/iptables"
	iptablessim "github.com/tierwall/tierwall/enforcer/iptables/simulator"
	"github.com/tierwall/tierwall/enforcer/nftables"
	nftablessim "github.com/tierwall/tierwall/enforcer/nftables/simulator"
	"github.com/tierwall/tierwall/enforcer/ruletext"
	"github.com/tierwall/tierwall/policy"
)

// rules are those of one backend, read back from the text that it renders.
type rules interface {
	judge(hook string, k packet) (answer, error)
}

// answer is what becomes of a packet by the rules.
type answer struct {
	accepted bool
	// reported are the directions that Audit reported it for.
	reported []policy.Direction
	trace    []string
}

// backends render a program's rules, by name.
var backends = map[string]func(*policy.Program) (rules, error){"iptables": iptablesOf, "nftables": nftablesOf}

// Audit hands every packet that it lets pass to the listener, under its direction's name; no other
// packet is handed over.
var auditPrefix = [2]string{policy.Ingress.String(), policy.Egress.String()}

func directionNamed(prefix string) policy.Direction {
	return policy.Direction(slices.Index(auditPrefix[:], prefix))
}

type iptablesRules map[iptables.Family]*iptablessim.Table

func iptablesOf(p *policy.Program) (rules, error) {
	out := iptablesRules{}
	for _, f := range []iptables.Family{iptables.IPv4, iptables.IPv6} {
		r, err := iptables.Render(p, f, ruletext.DenyLog{AuditPrefix: auditPrefix, AuditPerSecond: 1})
		if err != nil {
			return nil, err
		}
		out[f] = iptablessim.New()
		if err := out[f].RestoreSets(r.SetText()); err != nil {
			return nil, fmt.Errorf("%s sets: %w", f, err)
		}
		if err := out[f].Restore(r.RestoreText() + iptables.Jumps()); err != nil {
			return nil, fmt.Errorf("%s rules: %w", f, err)
		}
	}
	return out, nil
}

func (r iptablesRules) judge(hook string, k packet) (answer, error) {
	table := r[iptables.IPv4]
	if k.Source.Is6() {
		table = r[iptables.IPv6]
	}
	v, err := table.Judge(hook, iptablessim.Packet{Source: k.Source, Destination: k.Destination, Protocol: k.Protocol,
		DestinationPort: k.DestinationPort, ICMPType: k.ICMPType, ICMPCode: k.ICMPCode, HopLimit: k.HopLimit, Foreign: k.foreign, Interface: k.in, Established: k.established, Midway: k.established})
	out := answer{accepted: v.Accepted, trace: v.Trace}
	for _, l := range v.Logged {
		out.reported = append(out.reported, directionNamed(l.Prefix))
	}
	return out, err
}

type nftablesRules struct{ table *nftablessim.Table }

func nftablesOf(p *policy.Program) (rules, error) {
	r, err := nftables.Render(p, ruletext.DenyLog{AuditPrefix: auditPrefix, AuditPerSecond: 1})
	if err != nil {
		return nil, err
	}
	out := nftablesRules{nftablessim.New()}
	return out, out.table.Run(script(r))
}

func (r nftablesRules) judge(hook string, k packet) (answer, error) {
	v, err := r.table.Judge(strings.ToLower(hook), nftablessim.Packet{Source: k.Source, Destination: k.Destination, Protocol: k.Protocol,
		DestinationPort: k.DestinationPort, Payload: 80, ICMPType: k.ICMPType, ICMPCode: k.ICMPCode, HopLimit: k.HopLimit, Foreign: k.foreign, Interface: k.in, Established: k.established, Midway: k.established})
	out := answer{accepted: v.Accepted, trace: v.Trace}
	for _, l := range v.Logged {
		out.reported = append(out.reported, directionNamed(l.Prefix))
	}
	return out, err
}

// script is the ruleset as nft reads it.
func script(r nftables.Ruleset) string {
	tx := knftables.NewFake(knftables.InetFamily, "tierwall").NewTransaction()
	tx.Add(&knftables.Table{})
	names := slices.Sorted(maps.Keys(r.Sets))
	for _, name := range names {
		s := r.Sets[name]
		var flags []knftables.SetFlag
		if s.Interval {
			flags = append(flags, knftables.IntervalFlag)
		}
		if s.Map {
			tx.Add(&knftables.Map{Name: name, Type: s.Type + " : verdict", Flags: flags})
		} else {
			tx.Add(&knftables.Set{Name: name, Type: s.Type, Flags: flags})
		}
	}
	addChains(tx, r.Chains)
	for _, name := range names {
		for _, key := range slices.Sorted(maps.Keys(r.Sets[name].Elements)) {
			e := &knftables.Element{Set: name, Key: strings.Split(key, " . ")}
			if r.Sets[name].Map {
				e.Set, e.Map, e.Value = "", name, []string{r.Sets[name].Elements[key].Verdict}
			}
			tx.Add(e)
		}
	}
	return tx.String()
}

func addChains(tx *knftables.Transaction, chains map[string]nftables.Chain) {
	names := slices.Sorted(maps.Keys(chains))
	for _, name := range names {
		c := &knftables.Chain{Name: name}
		if hook := chains[name].Hook; hook != "" {
			c.Type, c.Hook = knftables.PtrTo(knftables.FilterType), knftables.PtrTo(knftables.BaseChainHook(hook))
			c.Priority, c.Policy = knftables.PtrTo(knftables.BaseChainPriority(strconv.Itoa(chains[name].Priority()))), knftables.PtrTo(knftables.AcceptPolicy)
		}
		tx.Add(c)
	}
	for _, name := range names {
		for _, rule := range chains[name].Rules {
			tx.Add(&knftables.Rule{Chain: name, Rule: rule.Text})
		}
	}
}
