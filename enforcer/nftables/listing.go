package nftables

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tierwall/tierwall/enforcer/nftables/nfnetlink"
)

// listing is what the kernel holds in our table.
type listing struct {
	// there says that there is a table, dormant that it is switched off.
	there, dormant bool
	chains         map[string]listedChain
	sets           map[string]Set
}

// listedChain is a chain in the kernel.
type listedChain struct {
	hook, policy string
	priority     int
	rules        []nfnetlink.Rule
}

// The objects of "nft --json", as libnftables-json(5) describes them.
type (
	listedObject struct {
		Table *struct{ Flags typeNames }
		Chain *struct {
			Name, Type, Hook, Policy string
			Prio                     int
		}
		Set, Map *listedSet
	}
	listedSet struct {
		Name  string
		Type  typeNames
		Map   string
		Flags []string
		Elem  []json.RawMessage
	}
	// typeNames are one name, or those of a concatenation.
	typeNames []string
)

func (t *typeNames) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(t))
	}
	*t = typeNames{""}
	return json.Unmarshal(b, &(*t)[0])
}

// readListing reads what "nft --json --numeric list table" prints, but for rules, one object after the other. A set
// that we could not have made has no type. One that is as wanted, whatever its generation, shares its elements.
func readListing(text io.Reader, want *Ruleset) (listing, error) {
	out := listing{chains: map[string]listedChain{}, sets: map[string]Set{}}
	objects := json.NewDecoder(text)
	if err := expectTokens(objects, json.Delim('{'), "nftables", json.Delim('[')); err != nil {
		return listing{}, err
	}
	for objects.More() {
		var o listedObject
		if err := objects.Decode(&o); err != nil {
			return listing{}, fmt.Errorf("reading what nft lists: %w", err)
		}
		out.addObject(o, want)
	}
	if err := expectTokens(objects, json.Delim(']'), json.Delim('}')); err != nil {
		return listing{}, err
	}
	return out, nil
}

// expectTokens reads tokens, and returns an error unless they are the expected ones.
func expectTokens(from *json.Decoder, expected ...json.Token) error {
	for _, e := range expected {
		switch token, err := from.Token(); {
		case err != nil:
			return fmt.Errorf("reading what nft lists: %w", err)
		case token != e:
			return fmt.Errorf("reading what nft lists: %v instead of %v", token, e)
		}
	}
	return nil
}

func (l *listing) addObject(o listedObject, want *Ruleset) {
	switch {
	case o.Table != nil:
		l.there, l.dormant = true, len(o.Table.Flags) > 0
	case o.Chain != nil:
		l.chains[o.Chain.Name] = listedChain{hook: o.Chain.Hook, policy: o.Chain.Policy, priority: o.Chain.Prio}
	case o.Set != nil:
		l.addSet(o.Set.Name, o.Set.toSet(false), want)
	case o.Map != nil:
		l.addSet(o.Map.Name, o.Map.toSet(true), want)
	}
}

func (l *listing) addSet(name string, s Set, want *Ruleset) {
	if want != nil {
		if w, wanted := want.Sets[baseName(name)]; wanted && w.sameAs(s) {
			s = w
		}
	}
	l.sets[name] = s
}

func (l *listedSet) toSet(isMap bool) Set {
	s := Set{Type: strings.Join(l.Type, " . "), Map: isMap, Elements: make(map[string]Element, len(l.Elem))}
	for _, flag := range l.Flags {
		if s.Interval = flag == "interval"; !s.Interval {
			return Set{Map: isMap}
		}
	}
	if isMap && l.Map != "verdict" {
		return Set{Map: true}
	}
	var blocks []block
	for _, raw := range l.Elem {
		k, e, err := parseElement(raw, isMap)
		if err != nil {
			return Set{Map: isMap}
		}
		if s.Interval && len(l.Type) == 1 {
			if b, err := parseBlock(k); err == nil {
				blocks = append(blocks, b)
			}
			continue
		}
		s.Elements[k] = e
	}
	if len(blocks) > 0 {
		s.Elements = blockElements(mergeBlocks(blocks)) // nft joins some, and others not
	}
	return s
}

// parseElement reads a key, or a pair of a key and a verdict.
func parseElement(raw json.RawMessage, isMap bool) (string, Element, error) {
	var e Element
	if isMap {
		var pair []json.RawMessage
		if err := json.Unmarshal(raw, &pair); err != nil || len(pair) != 2 {
			return "", e, fmt.Errorf("element %s: no verdict", raw)
		}
		var err error
		if e.Verdict, err = parseVerdict(pair[1]); err != nil {
			return "", e, err
		}
		raw = pair[0]
	}
	var long struct {
		Elem *struct {
			Val     json.RawMessage
			Comment string
		}
	}
	if json.Unmarshal(raw, &long) == nil && long.Elem != nil {
		raw, e.Comment = long.Elem.Val, long.Elem.Comment
	}
	k, err := parseKey(raw)
	return k, e, err
}

func parseVerdict(raw json.RawMessage) (string, error) {
	var v map[string]*struct{ Target string }
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", fmt.Errorf("verdict %s: %w", raw, err)
	}
	for name, to := range v {
		if to != nil {
			name += " " + to.Target
		}
		return name, nil
	}
	return "", fmt.Errorf("verdict %s: none", raw)
}

// parseKey reads a value, a prefix, a range or a concatenation of them.
func parseKey(raw json.RawMessage) (string, error) {
	if len(raw) > 0 && raw[0] != '{' {
		return parseValue(raw)
	}
	var v struct {
		Concat []json.RawMessage
		Prefix *struct {
			Addr string
			Len  int
		}
		Range []json.RawMessage
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", fmt.Errorf("key %s: %w", raw, err)
	}
	switch {
	case v.Prefix != nil:
		return fmt.Sprintf("%s/%d", canonicalAddress(v.Prefix.Addr), v.Prefix.Len), nil
	case len(v.Range) == 2:
		return parseFields(v.Range, "-")
	case len(v.Concat) > 0:
		return parseFields(v.Concat, " . ")
	}
	return "", fmt.Errorf("key %s: not understood", raw)
}

func parseFields(in []json.RawMessage, between string) (string, error) {
	fields := make([]string, len(in))
	for i, raw := range in {
		var err error
		if fields[i], err = parseKey(raw); err != nil {
			return "", err
		}
	}
	return strings.Join(fields, between), nil
}

func parseValue(raw json.RawMessage) (string, error) {
	if len(raw) > 0 && raw[0] == '"' {
		var s string
		err := json.Unmarshal(raw, &s)
		return canonicalAddress(s), err
	}
	n, err := strconv.Atoi(string(raw))
	return strconv.Itoa(n), err
}

// canonicalAddress is an address as we write it.
func canonicalAddress(text string) string {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.String()
	}
	return text
}

// parseBlock reads an address, a prefix or a range.
func parseBlock(text string) (block, error) {
	first, last, err := nfnetlink.ParseRange(text)
	return block{first, last}, err
}
