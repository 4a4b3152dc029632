package iptables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/policy"
)

// verb is what is done to a set.
type verb uint8

const (
	// create makes the set with its elements; it must not be there.
	create verb = iota
	// add and del add and remove the elements.
	add
	del
)

// setStep is a step of writing sets. Its set has the elements that it is about.
type setStep struct {
	verb verb
	set  Set
}

// restoreLines are the step as ipset restore reads it.
func (s setStep) restoreLines() []string {
	var out []string
	if s.verb == create {
		out = append(out, s.set.createLine())
	}
	for _, name := range s.set.Lists {
		out = append(out, "add "+s.set.Name+" "+name)
	}
	for _, e := range s.set.Elements {
		if s.verb == del {
			out = append(out, s.set.deleteLine(e))
		} else {
			out = append(out, s.set.addLine(e))
		}
	}
	return out
}

const (
	// typeRevision is that of the types of sets, in every kernel and tool since 2013
	// (linux/net/netfilter/ipset). The tool prints no set of a revision that it does not know.
	typeRevision = 1
	// networkRevision is that of hash:net, the first with nomatch.
	networkRevision = 2
	// noMatch is IPSET_FLAG_NOMATCH among IPSET_ATTR_CADT_FLAGS.
	noMatch = 1 << 2
	// perMessage is the number of elements in one message; a list of attributes has 64 KiB.
	perMessage = 1000
	netOrder   = int(nl.NLA_F_NET_BYTEORDER)
	// answerSeconds is how long the kernel may take for one message.
	answerSeconds = 30
)

// ipsets writes sets by netlink (linux/netfilter/ipset/ip_set.h): no program is started for it.
type ipsets struct{ socket *nl.NetlinkSocket }

// openSets opens the sets of the network namespace that the calling thread is in.
func openSets() (*ipsets, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening the sets: %w", err)
	}
	timeout := unix.Timeval{Sec: answerSeconds}
	if err := errors.Join(s.SetReceiveTimeout(&timeout), s.SetSendTimeout(&timeout)); err != nil {
		s.Close()
		return nil, fmt.Errorf("opening the sets: %w", err)
	}
	return &ipsets{s}, nil
}

// writeSets carries out steps, one after the other, up to the first that fails.
func writeSets(ctx context.Context, steps []setStep) error {
	if len(steps) == 0 {
		return nil
	}
	k, err := openSets()
	if err != nil {
		return err
	}
	defer k.socket.Close()
	for _, s := range steps {
		if err := k.writeStep(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (k *ipsets) writeStep(ctx context.Context, s setStep) error {
	if s.verb == create {
		if err := k.createSet(s.set); err != nil {
			return &setError{s.set.Name, fmt.Errorf("making the set %s: %w", s.set.Name, err)}
		}
		if err := k.fillList(s.set); err != nil {
			return &setError{s.set.Name, fmt.Errorf("making the list of sets %s: %w", s.set.Name, err)}
		}
	}
	command, doing := nl.IPSET_CMD_ADD, "adding to"
	if s.verb == del {
		command, doing = nl.IPSET_CMD_DEL, "removing from"
	}
	for some := range slices.Chunk(s.set.Elements, perMessage) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.writeElements(command, s.set, some); err != nil {
			return &setError{s.set.Name, fmt.Errorf("%s the set %s some of %s to %s: %w", doing, s.set.Name, elementText(some[0]), elementText(some[len(some)-1]), err)}
		}
	}
	return nil
}

func (k *ipsets) createSet(s Set) error {
	m := k.newMessage(nl.IPSET_CMD_CREATE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, s.Name)
	m.addText(nl.IPSET_ATTR_TYPENAME, s.Type)
	m.addBytes(nl.IPSET_ATTR_REVISION, s.revision())
	family := s.Family.kernelNumber()
	if s.isList() {
		family = unix.AF_UNSPEC
	}
	m.addBytes(nl.IPSET_ATTR_FAMILY, family)
	data := m.beginNest(nl.IPSET_ATTR_DATA)
	if s.isList() {
		m.addUint32(nl.IPSET_ATTR_SIZE, uint32(len(s.Lists)))
	} else {
		m.addUint32(nl.IPSET_ATTR_HASHSIZE, uint32(s.hashSize()))
		m.addUint32(nl.IPSET_ATTR_MAXELEM, uint32(s.maxEntries()))
	}
	m.endNest(data)
	return m.send()
}

// revision is that of the set's type.
func (s Set) revision() byte {
	if s.Type == setTypes[policy.Networks] {
		return networkRevision
	}
	return typeRevision
}

// fillList adds the sets of a list.
func (k *ipsets) fillList(s Set) error {
	for some := range slices.Chunk(s.Lists, perMessage) {
		m := k.newMessage(nl.IPSET_CMD_ADD, 0, s.Name)
		m.addUint32(nl.IPSET_ATTR_LINENO, 0)
		list := m.beginNest(nl.IPSET_ATTR_ADT)
		for _, name := range some {
			data := m.beginNest(nl.IPSET_ATTR_DATA)
			m.addText(nl.IPSET_ATTR_NAME, name)
			m.addUint32(nl.IPSET_ATTR_LINENO, 0)
			m.endNest(data)
		}
		m.endNest(list)
		if err := m.send(); err != nil {
			return err
		}
	}
	return nil
}

// writeElements adds or removes elements. One that is there already, or is not, is no error.
func (k *ipsets) writeElements(command int, s Set, elements []policy.Element) error {
	m := k.newMessage(command, 0, s.Name)
	m.addUint32(nl.IPSET_ATTR_LINENO, 0) // without which no list of elements is taken
	list := m.beginNest(nl.IPSET_ATTR_ADT)
	for _, e := range elements {
		data := m.beginNest(nl.IPSET_ATTR_DATA)
		address := m.beginNest(nl.IPSET_ATTR_IP)
		kind := nl.IPSET_ATTR_IPADDR_IPV4
		if e.Prefix.Addr().Is6() {
			kind = nl.IPSET_ATTR_IPADDR_IPV6
		}
		m.addBytes(kind|netOrder, e.Prefix.Addr().AsSlice()...)
		m.endNest(address)
		if !e.Prefix.IsSingleIP() {
			m.addBytes(nl.IPSET_ATTR_CIDR, byte(e.Prefix.Bits()))
		}
		if e.Protocol != 0 {
			m.addBytes(nl.IPSET_ATTR_PORT|netOrder, byte(e.Port>>8), byte(e.Port))
			m.addBytes(nl.IPSET_ATTR_PROTO, byte(e.Protocol))
		}
		if e.Except {
			m.addUint32(nl.IPSET_ATTR_CADT_FLAGS, noMatch)
		}
		m.addUint32(nl.IPSET_ATTR_LINENO, 0)
		m.endNest(data)
	}
	m.endNest(list)
	return m.send()
}

// destroySets destroys sets and gives those that are in use still: nf_tables frees the
// rules that refer to them a moment after the commit. One that is not there is destroyed. Lists that
// go free their sets.
func destroySets(names []string) (left []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	k, err := openSets()
	if err != nil {
		return names, err
	}
	defer k.socket.Close()
	for {
		left, err = k.destroySets(names)
		if err != nil || len(left) == 0 || len(left) == len(names) {
			return left, err
		}
		names = left
	}
}

func (k *ipsets) destroySets(names []string) (left []string, err error) {
	for _, name := range names {
		failed := k.newMessage(nl.IPSET_CMD_DESTROY, 0, name).send()
		if failed == nil || errors.Is(failed, unix.ENOENT) {
			continue
		}
		left = append(left, name)
		if !errors.Is(failed, nl.IPSetError(nl.IPSET_ERR_BUSY)) {
			err = errors.Join(err, fmt.Errorf("destroying the set %s: %w", name, failed))
		}
	}
	return left, err
}

// listHeader asks for sets without their elements (IPSET_FLAG_LIST_HEADER).
const listHeader = 1 << 2

// countElements are the numbers of elements of all sets, others' too, by name. One of which the kernel
// does not tell has -1.
func countElements() (map[string]int, error) {
	k, err := openSets()
	if err != nil {
		return nil, err
	}
	defer k.socket.Close()
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_IPSET<<8|nl.IPSET_CMD_LIST, unix.NLM_F_DUMP)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	m := &message{ipsets: k, request: r}
	m.addBytes(nl.IPSET_ATTR_PROTOCOL, nl.IPSET_PROTOCOL)
	m.addUint32(nl.IPSET_ATTR_FLAGS, listHeader)
	answers, err := m.execute()
	if err != nil {
		return nil, fmt.Errorf("reading the sizes of sets: %w", err)
	}
	out := map[string]int{}
	for _, a := range answers {
		if name, elements, ok := parseHeader(a); ok {
			out[name] = elements
		}
	}
	return out, nil
}

// parseHeader reads what the kernel says of a set.
func parseHeader(answer []byte) (name string, elements int, ok bool) {
	elements = -1
	if len(answer) < nl.SizeofNfgenmsg {
		return name, elements, false
	}
	attributes, err := nl.ParseRouteAttr(answer[nl.SizeofNfgenmsg:])
	if err != nil {
		return name, elements, false
	}
	for _, a := range attributes {
		switch int(a.Attr.Type) &^ (netOrder | int(nl.NLA_F_NESTED)) {
		case nl.IPSET_ATTR_SETNAME:
			name = strings.TrimRight(string(a.Value), "\x00")
		case nl.IPSET_ATTR_DATA:
			data, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return name, elements, false
			}
			for _, d := range data {
				if int(d.Attr.Type)&^netOrder == nl.IPSET_ATTR_ELEMENTS && len(d.Value) == 4 {
					elements = int(binary.BigEndian.Uint32(d.Value))
				}
			}
		}
	}
	return name, elements, name != ""
}

// message is a request in the making.
type message struct {
	*ipsets
	request *nl.NetlinkRequest
	body    []byte
}

func (k *ipsets) newMessage(command, flags int, set string) *message {
	m := &message{ipsets: k, request: nl.NewNetlinkRequest(unix.NFNL_SUBSYS_IPSET<<8|command, flags|unix.NLM_F_ACK)}
	m.request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	m.addBytes(nl.IPSET_ATTR_PROTOCOL, nl.IPSET_PROTOCOL)
	m.addText(nl.IPSET_ATTR_SETNAME, set)
	return m
}

// addBytes adds an attribute.
func (m *message) addBytes(kind int, value ...byte) {
	m.body = binary.NativeEndian.AppendUint16(m.body, uint16(4+len(value)))
	m.body = binary.NativeEndian.AppendUint16(m.body, uint16(kind))
	m.body = append(m.body, value...)
	for len(m.body)%4 != 0 {
		m.body = append(m.body, 0)
	}
}

func (m *message) addText(kind int, value string) { m.addBytes(kind, append([]byte(value), 0)...) }

func (m *message) addUint32(kind int, value uint32) {
	m.addBytes(kind|netOrder, binary.BigEndian.AppendUint32(nil, value)...)
}

// beginNest begins an attribute that holds others, end ends it.
func (m *message) beginNest(kind int) int {
	m.addBytes(kind | int(nl.NLA_F_NESTED))
	return len(m.body) - 4
}

func (m *message) endNest(start int) {
	binary.NativeEndian.PutUint16(m.body[start:], uint16(len(m.body)-start))
}

// send sends the request and waits for the kernel's answer.
func (m *message) send() error {
	_, err := m.execute()
	return err
}

func (m *message) execute() ([][]byte, error) {
	m.request.AddRawData(m.body)
	m.request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: m.socket}}
	answers, err := m.request.Execute(unix.NETLINK_NETFILTER, 0)
	var code unix.Errno
	if errors.As(err, &code) && code > nl.IPSET_ERR_PRIVATE {
		return nil, nl.IPSetError(code)
	}
	return answers, err
}
