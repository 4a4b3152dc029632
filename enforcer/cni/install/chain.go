package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tierwall/tierwall/enforcer/cni"
	"github.com/tierwall/tierwall/enforcer/cni/plugin"
)

// chain is a CNI configuration list. Entries of others stay unchanged.
type chain struct {
	fields  map[string]json.RawMessage
	plugins []json.RawMessage
}

// entry is our entry of a chain.
type entry struct {
	Type             string   `json:"type"`
	Socket           string   `json:"socket"`
	TimeoutSeconds   int      `json:"timeoutSeconds"`
	ExemptNamespaces []string `json:"exemptNamespaces"`
}

func parseChain(text []byte) (*chain, error) {
	c := &chain{}
	if err := json.Unmarshal(text, &c.fields); err != nil {
		return nil, fmt.Errorf("not a CNI configuration: %w", err)
	}
	if c.fields["plugins"] == nil {
		return nil, errors.New("not a list of plugins")
	}
	if err := json.Unmarshal(c.fields["plugins"], &c.plugins); err != nil {
		return nil, fmt.Errorf("its plugins cannot be read: %w", err)
	}
	if !slices.ContainsFunc(c.plugins, func(p json.RawMessage) bool { return !isOurs(p) }) {
		return nil, errors.New("it has no plugin but ours")
	}
	return c, nil
}

// isOurs reports whether a plugin of a chain is ours.
func isOurs(entry json.RawMessage) bool {
	var p struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(entry, &p) == nil && p.Type == cni.Type
}

// withEntry returns the chain with our entry at its end, and no other of ours.
func (c *chain) withEntry(e *entry) ([]byte, error) {
	var v string
	if err := json.Unmarshal(c.fields["cniVersion"], &v); err != nil || !slices.Contains(plugin.Versions.SupportedVersions(), v) {
		return nil, fmt.Errorf("its cniVersion is %s, and the plugin knows %v", c.fields["cniVersion"], plugin.Versions.SupportedVersions())
	}
	mine, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return c.encodeChain(append(c.otherEntries(), mine))
}

// withoutEntry returns the chain without our entries.
func (c *chain) withoutEntry() ([]byte, error) { return c.encodeChain(c.otherEntries()) }

func (c *chain) otherEntries() []json.RawMessage {
	return slices.DeleteFunc(slices.Clone(c.plugins), isOurs)
}

// hasEntry reports whether the chain ends in our entry, and has no other of ours.
func (c *chain) hasEntry(e *entry) bool {
	want, err := json.Marshal(e)
	if err != nil || len(c.plugins) != len(c.otherEntries())+1 {
		return false
	}
	var got bytes.Buffer
	return json.Compact(&got, c.plugins[len(c.plugins)-1]) == nil && bytes.Equal(got.Bytes(), want)
}

// mentionsUs reports whether the chain has an entry of ours.
func (c *chain) mentionsUs() bool { return slices.ContainsFunc(c.plugins, isOurs) }

func (c *chain) encodeChain(plugins []json.RawMessage) ([]byte, error) {
	list, err := json.Marshal(plugins)
	if err != nil {
		return nil, err
	}
	fields := make(map[string]json.RawMessage, len(c.fields))
	for k, v := range c.fields {
		fields[k] = v
	}
	fields["plugins"] = list
	out, err := json.MarshalIndent(fields, "", "  ")
	return append(out, '\n'), err
}
