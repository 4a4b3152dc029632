package simulator

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// set is an ipset.
type set struct {
	kind, family string
	size         int
	// elements are false for those with nomatch.
	elements map[string]bool
	// lengths are those of the prefixes, in sets that hold networks.
	lengths map[int]int
	// members are the sets in a list of sets.
	members []string
}

// RestoreSets does what ipset restore -exist does with the text: line by line,
// up to the first error.
func (t *Table) RestoreSets(text string) error {
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if line == "" {
			continue
		}
		if err := t.setCommand(strings.Fields(line)); err != nil {
			return fmt.Errorf("line %d %q: %w", i+1, line, err)
		}
	}
	return nil
}

func (t *Table) setCommand(words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("not understood")
	}
	command, name := words[0], words[1]
	switch {
	case command == "create" && len(words) > 2 && words[2] == listType:
		return t.createList(name, words[3:])
	case command == "create":
		return t.createSet(name, words[2:])
	case t.sets[name] == nil:
		return fmt.Errorf("no such set")
	case t.sets[name].kind == listType && command != "destroy":
		return t.addToList(command, name, words[2:])
	case command == "destroy" && len(words) == 2:
		return t.destroySet(name)
	case command == "add" && len(words) == 3:
		return t.sets[name].addElement(words[2], true)
	case command == "add" && len(words) == 4 && words[3] == "nomatch" && t.sets[name].kind == "hash:net":
		return t.sets[name].addElement(words[2], false)
	case command == "del" && len(words) == 3:
		return t.sets[name].deleteElement(words[2])
	default:
		return fmt.Errorf("not understood")
	}
}

func (t *Table) createSet(name string, words []string) error {
	if len(name) > 31 || len(words) != 7 || words[1] != "family" || words[3] != "hashsize" || words[5] != "maxelem" {
		return fmt.Errorf("not understood")
	}
	size, err := strconv.Atoi(words[6])
	if err != nil {
		return err
	}
	s := &set{kind: words[0], family: words[2], size: size, elements: map[string]bool{}, lengths: map[int]int{}}
	if !slices.Contains([]string{"hash:ip", "hash:net", "hash:ip,port", "hash:net,port"}, s.kind) {
		return fmt.Errorf("no type %s", s.kind)
	}
	if old := t.sets[name]; old != nil {
		if old.kind != s.kind || old.family != s.family {
			return fmt.Errorf("the set exists with another type")
		}
		return nil
	}
	t.sets[name] = s
	return nil
}

func (t *Table) destroySet(name string) error {
	for chain, rules := range t.chains {
		for _, r := range rules {
			if slices.Contains(r.sets, name) {
				return fmt.Errorf("chain %s uses the set", chain)
			}
		}
	}
	for list, s := range t.sets {
		if slices.Contains(s.members, name) {
			return fmt.Errorf("list %s uses the set", list)
		}
	}
	delete(t.sets, name)
	return nil
}

// addElement adds an element, or marks one that is there by whether it matches.
func (s *set) addElement(element string, matches bool) error {
	key, bits, err := s.parseKey(element)
	if err != nil {
		return err
	}
	if _, there := s.elements[key]; !there {
		if len(s.elements) >= s.size {
			return fmt.Errorf("the set is full")
		}
		s.lengths[bits]++
	}
	s.elements[key] = matches
	return nil
}

func (s *set) deleteElement(element string) error {
	key, bits, err := s.parseKey(element)
	if err != nil {
		return err
	}
	if _, there := s.elements[key]; there {
		delete(s.elements, key)
		s.lengths[bits]--
	}
	return nil
}

// parseKey is an element's key and the length of its prefix.
func (s *set) parseKey(element string) (key string, bits int, err error) {
	if err := s.checkElement(element); err != nil {
		return "", 0, err
	}
	network, service, _ := strings.Cut(element, ",")
	p, err := parsePrefix(network)
	if err != nil {
		return "", 0, err
	}
	return elementKey(p.Masked(), service), p.Bits(), nil
}

func elementKey(p netip.Prefix, service string) string {
	if service == "" {
		return p.String()
	}
	return p.String() + "," + service
}

// checkElement makes sure that an element is of the set's type and family.
func (s *set) checkElement(element string) error {
	network, service, hasPort := strings.Cut(element, ",")
	p, err := parsePrefix(network)
	switch {
	case err != nil:
		return err
	case p.Addr().Is4() != (s.family == "inet"):
		return fmt.Errorf("not an element of family %s", s.family)
	case hasPort != strings.HasSuffix(s.kind, ",port"):
		return fmt.Errorf("not an element of a %s", s.kind)
	case p.Bits() == 0 || !strings.HasPrefix(s.kind, "hash:net") && !p.IsSingleIP():
		return fmt.Errorf("a %s cannot hold a prefix of length %d", s.kind, p.Bits())
	case !hasPort:
		return nil
	}
	protocol, port, _ := strings.Cut(service, ":")
	if !protocols[protocol].HasPorts() {
		return fmt.Errorf("no protocol with ports: %s", protocol)
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// inSet reports whether the sides of a packet that are asked for are in the set of a name, or in a set of the list.
func (t *Table) inSet(name string, k countedPacket, dimensions []string) bool {
	s := t.sets[name]
	if s.kind == listType {
		return slices.ContainsFunc(s.members, func(member string) bool { return t.inSet(member, k, dimensions) })
	}
	*k.lookups += s.countLookups()
	return s.contains(k.Packet, dimensions)
}

// countLookups is the number of lookups that the kernel makes in the set for a packet.
func (s *set) countLookups() int {
	n := 0
	for _, elements := range s.lengths {
		if elements > 0 {
			n++
		}
	}
	return max(1, n)
}

// contains reports whether the sides of a packet that are asked for are in the set.
func (s *set) contains(k Packet, dimensions []string) bool {
	address := k.Source
	if dimensions[0] == "dst" {
		address = k.Destination
	}
	service := ""
	if strings.HasSuffix(s.kind, ",port") {
		if len(dimensions) != 2 || dimensions[1] != "dst" || !k.Protocol.HasPorts() {
			return false
		}
		service = fmt.Sprintf("%s:%d", strings.ToLower(k.Protocol.String()), k.DestinationPort)
	}
	for bits := address.BitLen(); bits >= 0; bits-- { // the longest prefix decides
		if s.lengths[bits] == 0 {
			continue
		}
		if p, err := address.Prefix(bits); err == nil {
			if matches, there := s.elements[elementKey(p, service)]; there {
				return matches
			}
		}
	}
	return false
}
