package explain

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"

	"github.com/tierwall/tierwall/cli/report"
	"github.com/tierwall/tierwall/policy"
)

// Schema is the version of the JSON form.
const Schema = "tierwall.io/explain/v1"

// Document is a question with its answers, as JSON.
type Document struct {
	Schema   string   `json:"schema"`
	From     Party    `json:"from"`
	To       Party    `json:"to"`
	Protocol string   `json:"protocol"`
	Port     uint16   `json:"port,omitempty"`
	Answers  []Answer `json:"answers"`
}

// Party is a side as JSON.
type Party struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
}

// DocumentOf is the JSON form of a question and its answers.
func DocumentOf(q Question, answers []Answer) Document {
	return Document{Schema: Schema, From: Party{q.From.Name, q.From.Addrs}, To: Party{q.To.Name, q.To.Addrs}, Protocol: q.Protocol.String(), Port: q.Port, Answers: answers}
}

// Allowed says whether the flow may pass.
func (a Answer) Allowed() bool { return a.Verdict != word(policy.Deny) }

// Text writes the answers for people.
func Text(out io.Writer, style report.Style, q Question, answers []Answer) error {
	w := bufio.NewWriter(out)
	for i, a := range answers {
		if i > 0 {
			fmt.Fprintln(w)
		}
		port := q.Protocol.String()
		if q.Protocol.HasPorts() {
			port = fmt.Sprintf("%d/%s", q.Port, q.Protocol)
		}
		if a.Family != "" {
			port += " over " + a.Family
		}
		fmt.Fprintf(w, "%s → %s on %s: %s\n\n", style.Strong(q.From.Name), style.Strong(q.To.Name), port, verdict(style, a.Verdict))
		direction(w, style, "egress ", a.Egress)
		direction(w, style, "ingress", a.Ingress)
	}
	return w.Flush()
}

func verdict(style report.Style, v string) string {
	switch v {
	case word(policy.Allow):
		return style.Good(v)
	case word(policy.Audit):
		return style.Good("passes, audited")
	default:
		return style.Bad(v)
	}
}

func direction(w io.Writer, style report.Style, name string, r Reason) {
	padding := ""
	if r.Verdict == word(policy.Deny) {
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
