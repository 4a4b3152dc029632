package nfnetlink

import (
	"encoding/binary"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func TestARuleIsReadAsTheKernelTellsIt(t *testing.T) {
	message := func(of ...func(*attributes)) []byte {
		a := attributes{make([]byte, nl.SizeofNfgenmsg)}
		for _, add := range of {
			add(&a)
		}
		return a.buf
	}
	text := func(kind uint16, value string) func(*attributes) {
		return func(a *attributes) { a.addText(kind, value) }
	}
	data := func(kind uint16, value ...byte) func(*attributes) {
		return func(a *attributes) { a.addBytes(kind, value...) }
	}
	chain, does := text(unix.NFTA_RULE_CHAIN, "forward"), data(unix.NFTA_RULE_EXPRESSIONS, 1, 2, 3)
	seen := map[string]string{}
	for name, of := range map[string][]func(*attributes){
		"nothing": {chain}, "a rule": {chain, data(unix.NFTA_RULE_HANDLE, 0, 0, 0, 0, 0, 0, 0, 9), does},
		"another of its kind": {chain, data(unix.NFTA_RULE_HANDLE, 0, 0, 0, 0, 0, 0, 0, 8), does},
		"with a comment":      {chain, does, data(unix.NFTA_RULE_USERDATA, commentData("why")...)},
		"with another":        {chain, does, data(unix.NFTA_RULE_USERDATA, commentData("whi")...)},
		"that does more":      {chain, data(unix.NFTA_RULE_EXPRESSIONS, 1, 2, 3, 0)},
	} {
		in, rule, err := parseRule(message(append(of, data(unix.NFTA_RULE_POSITION, 0, 0, 0, 0, 0, 0, 0, byte(len(name))))...))
		if err != nil || in != "forward" || (rule.Comment == "why") != (name == "with a comment") {
			t.Errorf("%s: %q %+v %v", name, in, rule, err)
		}
		if other, same := seen[rule.Content]; same {
			t.Errorf("%s reads as %s", name, other)
		}
		seen[rule.Content] = name
	}
	for name, wrong := range map[string][]byte{"nothing": nil, "an attribute that is cut": append(message(chain), 200, 0, 1, 0)} {
		if _, _, err := parseRule(wrong); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, wrong := range [][]byte{nil, {0}, {0, 9, 'x'}, {1, 1, 0}} {
		if got := commentOf(wrong); got != "" {
			t.Errorf("%v has the comment %q", wrong, got)
		}
	}
}

func TestTheGenerationIsReadFromTheKernelsAnswer(t *testing.T) {
	attribute := func(kind uint16, value ...byte) []byte {
		out := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
		return append(binary.NativeEndian.AppendUint16(out, kind), value...)
	}
	answer := make([]byte, nl.SizeofNfgenmsg)
	message := func(data []byte) syscall.NetlinkMessage {
		return syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: generationIs}, Data: data}
	}
	full := append(append(slices.Clone(answer), attribute(2, 0, 0, 0, 9)...), attribute(unix.NFTA_GEN_ID, 0, 0, 1, 2)...)
	if n, err := parseGeneration(message(full)); n != 258 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := parseGeneration(syscall.NetlinkMessage{Data: full}); err == nil {
		t.Error("another message: no error")
	}
	for name, wrong := range map[string][]byte{
		"nothing": nil, "no attribute": answer,
		"an attribute that is cut": append(slices.Clone(answer), 200, 0, 1, 0), "an attribute of no length": append(slices.Clone(answer), 0, 0, 1, 0),
	} {
		if _, err := parseGeneration(message(wrong)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
