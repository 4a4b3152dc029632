package explain

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/tierwall/tierwall/cli/report"
	"github.com/tierwall/tierwall/policy"
)

// Schema is the version of the JSON form.
const Schema = "tierwall.io/explain/v1"

// Document is a question with its answers, as JSON.
type Document struct {
	Schema   string `json:"schema"`
	From     Party  `json:"from"`
	To       Party  `json:"to"`
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port,omitempty"`
	// PortName is the port's where it was asked by name.
	PortName string `json:"portName,omitempty"`
	// Verdict is that on all answers: allowed, audited, denied, unknown, or partly.
	Verdict string   `json:"verdict"`
	Answers []Answer `json:"answers"`
}

// Party is a side as JSON. Addresses are those that are known.
type Party struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
}

// DocumentOf is the JSON form of a question and its answers.
func DocumentOf(q Question, r Result) Document {
	return Document{Schema: Schema, From: partyOf(q.From), To: partyOf(q.To), Protocol: r.Protocol.String(),
		Port: q.Port.Number, PortName: q.Port.Name, Verdict: r.Verdict, Answers: r.Answers}
}

func partyOf(s Side) Party {
	out := Party{s.Name, []netip.Addr{}}
	for _, m := range s.Members {
		out.Addresses = append(out.Addresses, m.Addrs...)
	}
	return out
}

// Text writes the answers for people.
func Text(out io.Writer, style report.Style, q Question, r Result) error {
	w := bufio.NewWriter(out)
	between := fmt.Sprintf("%s → %s on %s", style.Strong(q.From.Name), style.Strong(q.To.Name), q.Port)
	split := slices.ContainsFunc(r.Answers, func(a Answer) bool { return a.Pairs != nil })
	if split {
		fmt.Fprintf(w, "%s: %s\n\n", between, verdict(style, r.Verdict))
	}
	for i, a := range r.Answers {
		if i > 0 {
			fmt.Fprintln(w)
		}
		title := between
		if split {
			title = a.Pairs.String()
		}
		if a.Family != "" {
			title += " over " + a.Family
		}
		fmt.Fprintf(w, "%s: %s\n\n", title, verdict(style, a.Verdict))
		direction(w, style, "egress ", a.Egress)
		direction(w, style, "ingress", a.Ingress)
		for _, u := range a.Because {
			fmt.Fprintf(w, "  unknown  %s\n", style.Wrap(u.String(), 11))
		}
	}
	return w.Flush()
}

// String is the pairs in words.
func (p *Pairs) String() string {
	count := fmt.Sprintf("%d of %d pairs", p.Count, p.Of)
	switch {
	case p.Self:
		return "a pod → itself (" + count + ")"
	case p.Others:
		return "a pod → another of them (" + count + ")"
	}
	return some(p.From) + " → " + some(p.To) + " (" + count + ")"
}

// some are the first of several names.
func some(names []string) string {
	const most = 3
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func verdict(style report.Style, v string) string {
	switch v {
	case verdictWord(policy.Allow):
		return style.Good(v)
	case verdictWord(policy.Audit):
		return style.Good("passes, audited")
	case Unsure:
		return style.Notice(v)
	case Partly:
		return style.Bad("not for all pods")
	default:
		return style.Bad(v)
	}
}

func direction(w io.Writer, style report.Style, name string, r Reason) {
	padding := ""
	if r.Verdict == verdictWord(policy.Deny) {
		padding = " " // as long as allowed
	}
	tier := ""
	if r.Tier != "" {
		tier = style.Faint(fmt.Sprintf("  (tier %s)", r.Tier))
	}
	fmt.Fprintf(w, "  %s  %s%s  %s%s\n", name, verdict(style, r.Verdict), padding, style.Wrap(r.Says, 20), tier)
	for _, m := range r.NearMisses {
		fmt.Fprintf(w, "           %s  %s %s\n", style.Faint("near miss"), m.Policy, m.Field)
		fmt.Fprintf(w, "                      %s\n", style.Wrap(m.Says, 22))
	}
}
