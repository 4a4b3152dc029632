package simulator

import (
	"fmt"
	"slices"
	"strconv"
)

// listType is the type of lists of sets.
const listType = "list:set"

func (t *Table) createList(name string, words []string) error {
	if len(name) > 31 || len(words) != 2 || words[0] != "size" {
		return fmt.Errorf("not understood")
	}
	size, err := strconv.ParseUint(words[1], 10, 16)
	if err != nil || size == 0 {
		return fmt.Errorf("no size of a list: %s", words[1])
	}
	if old := t.sets[name]; old != nil {
		if old.kind != listType {
			return fmt.Errorf("the set exists with another type")
		}
		return nil
	}
	t.sets[name] = &set{kind: listType, size: int(size)}
	return nil
}

// addToList adds a set to a list. A list holds no lists.
func (t *Table) addToList(command, name string, words []string) error {
	s := t.sets[name]
	switch {
	case command != "add" || len(words) != 1:
		return fmt.Errorf("not understood")
	case t.sets[words[0]] == nil || t.sets[words[0]].kind == listType:
		return fmt.Errorf("no set %s to list", words[0])
	case slices.Contains(s.members, words[0]):
		return nil
	case len(s.members) >= s.size:
		return fmt.Errorf("the list is full")
	}
	s.members = append(s.members, words[0])
	return nil
}
