package rego

import (
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	oparego "github.com/open-policy-agent/opa/v1/rego"
)

// answer is a guardrail's result for one input.
type answer struct {
	denials, warnings []message
	// failure is set when the guardrail could not answer; nothing else counts then.
	failure error
}

// message is an element of deny or warn.
type message struct{ text, path string }

// evaluate returns the guardrail's answer, in its share of the time that is left to several guardrails.
func (p *Prepared) evaluate(w *limiter, document ast.Object, among int) (a answer) {
	defer func() {
		if problem := recover(); problem != nil {
			a = answer{failure: fmt.Errorf("it made the evaluator fail: %v", problem)}
		}
	}()
	cancel := w.beginCall(among)
	results, err := p.query.Eval(w.ctx, oparego.EvalExternalCancel(cancel),
		oparego.EvalParsedInput(withParameters(document, p.parameters)), oparego.EvalSortSets(true))
	switch stopped := w.endCall(); {
	case stopped != nil:
		return answer{failure: stopped}
	case err != nil:
		return answer{failure: err}
	case len(results) != 1:
		return answer{failure: fmt.Errorf("it gave %d answers instead of one", len(results))}
	}
	return readAnswer(results[0].Bindings)
}

func readAnswer(bindings oparego.Vars) (a answer) {
	var denyErr, warnErr error
	a.denials, denyErr = readMessages("deny", bindings["deny"])
	a.warnings, warnErr = readMessages("warn", bindings["warn"])
	if err := errors.Join(denyErr, warnErr); err != nil {
		return answer{failure: err}
	}
	return a
}

// readMessages reads a set of messages; nil is that of a rule that the guardrail does not have.
func readMessages(rule string, set any) ([]message, error) {
	if set == nil {
		return nil, nil
	}
	elements, ok := set.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is a %T, not a set of messages", rule, set)
	}
	var out []message
	for _, element := range elements {
		m, ok := readMessage(element)
		if !ok {
			return nil, fmt.Errorf(`%s has an element that is neither a text nor an object with "msg" (and "path"): %s`, rule, shortenValue(fmt.Sprint(element)))
		}
		out = append(out, m)
	}
	return out, nil
}

func readMessage(element any) (message, bool) {
	switch e := element.(type) {
	case string:
		return message{text: truncateMessage(e)}, e != ""
	case map[string]any:
		text, ok := e["msg"].(string)
		path, isText := e["path"].(string)
		_, given := e["path"]
		return message{text: truncateMessage(text), path: truncateMessage(path)}, ok && text != "" && (isText || !given)
	default:
		return message{}, false
	}
}

// maxText is how long a message, or a path, is at most, in bytes.
const maxText = 4096

func truncateMessage(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}
