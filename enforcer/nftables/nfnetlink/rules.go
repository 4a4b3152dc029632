package nfnetlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	generationRequest = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN
	generationIs      = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN
	attributeType     = 1<<14 - 1 // of an attribute, without its flags

	rulesRequest = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE
	ruleIs       = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE
)

// errInterrupted says that tables were changed while they were read.
var errInterrupted = errors.New("dump interrupted: the ruleset keeps changing")

// Rule is a rule in the kernel.
type Rule struct {
	// Content is the rule with its handle, encoded. It is equal as long as the rule is not replaced.
	Content, Comment string
}

// Rules reads the rules of the table, by chain.
func (s *Socket) Rules() (map[string][]Rule, error) {
	err := errInterrupted
	for range attempts {
		var out map[string][]Rule
		if out, err = s.readRules(); err == nil {
			return out, nil
		}
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	return nil, fmt.Errorf("reading the rules of our table: %w", err)
}

func (s *Socket) readRules() (map[string][]Rule, error) {
	if err := s.ensureOpen(); err != nil {
		return nil, err
	}
	const sequence = 1
	request := attributes{appendHeader(nil, rulesRequest, unix.NLM_F_DUMP, sequence)}
	request.buf = append(request.buf, unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0)
	request.addText(unix.NFTA_RULE_TABLE, s.Table)
	binary.NativeEndian.PutUint32(request.buf, uint32(len(request.buf)))
	if err := s.sendMessage(request.buf); err != nil {
		return nil, err
	}
	out, interrupted := map[string][]Rule{}, false
	for {
		messages, from, err := s.Netlink.Receive()
		if err != nil {
			s.closeConnection()
			return nil, err
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		for _, m := range messages {
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Header.Type {
			case unix.NLMSG_ERROR:
				s.closeConnection()
				return nil, answerOf(m)
			case unix.NLMSG_DONE:
				err := answerOf(m)
				if err == nil && interrupted {
					err = errInterrupted
				}
				return out, err
			case ruleIs:
				chain, rule, err := parseRule(m.Data)
				if err != nil {
					s.closeConnection()
					return nil, err
				}
				out[chain] = append(out[chain], rule)
			}
		}
	}
}

// parseRule reads the kernel's message about a rule: what it does, for which it needs no understanding, and why.
func parseRule(data []byte) (chain string, rule Rule, err error) {
	if len(data) < nl.SizeofNfgenmsg {
		return "", rule, errors.New("not a rule")
	}
	list, err := nl.ParseRouteAttr(data[nl.SizeofNfgenmsg:])
	if err != nil {
		return "", rule, err
	}
	for _, a := range list {
		switch a.Attr.Type & attributeType {
		case unix.NFTA_RULE_CHAIN:
			chain = strings.TrimRight(string(a.Value), "\x00")
		case unix.NFTA_RULE_HANDLE, unix.NFTA_RULE_EXPRESSIONS, unix.NFTA_RULE_USERDATA:
			rule.Content += string(binary.NativeEndian.AppendUint16(nil, uint16(len(a.Value)))) + string(a.Value)
		}
		if a.Attr.Type&attributeType == unix.NFTA_RULE_USERDATA {
			rule.Comment = commentOf(a.Value)
		}
	}
	return chain, rule, nil
}

// commentOf is the comment among a user's data; see commentData.
func commentOf(data []byte) string {
	for len(data) >= 2 && len(data) >= 2+int(data[1]) {
		if data[0] == 0 {
			return strings.TrimRight(string(data[2:2+data[1]]), "\x00")
		}
		data = data[2+data[1]:]
	}
	return ""
}
