package plugin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/tierwall/tierwall/enforcer/cni"
)

// DefaultTimeout is how long a pod waits for its rules before its start fails. The kubelet retries.
const DefaultTimeout = 15 * time.Second

// config is the plugin's entry of the chain.
type config struct {
	types.PluginConf
	// Socket is where the agent listens.
	Socket string `json:"socket"`
	// TimeoutSeconds is how long a pod waits.
	TimeoutSeconds int `json:"timeoutSeconds"`
	// ExemptNamespaces are the namespaces whose pods start without an agent.
	ExemptNamespaces []string `json:"exemptNamespaces"`
}

func parseConfig(stdin []byte) (*config, error) {
	c := &config{Socket: cni.Socket}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "the configuration of "+cni.Type+" cannot be read", err.Error())
	}
	if c.TimeoutSeconds < 0 {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("timeoutSeconds %d is negative", c.TimeoutSeconds), "")
	}
	if err := version.ParsePrevResult(&c.PluginConf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "the result of the plugins before cannot be read", err.Error())
	}
	return c, nil
}

func (c *config) waitTimeout() time.Duration {
	if c.TimeoutSeconds == 0 {
		return DefaultTimeout
	}
	return time.Duration(c.TimeoutSeconds) * time.Second
}

// previousResult returns the result of the plugins before.
func (c *config) previousResult() (*types100.Result, error) {
	if c.PrevResult == nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, cni.Type+" has to come last in a chain: no plugin before it made a network", "")
	}
	result, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "the result of the plugins before cannot be read", err.Error())
	}
	return result, nil
}

// podAddresses returns the addresses of the pod's own interface, the first of each IP family.
func podAddresses(r *types100.Result, ifName string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, ip := range r.IPs {
		if !isPodAddress(r, ip, ifName) {
			continue
		}
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("%v is no address", ip.Address), "")
		}
		addr = addr.Unmap()
		if len(out) == 0 || len(out) == 1 && out[0].Is4() != addr.Is4() {
			out = append(out, addr)
		}
	}
	if len(out) == 0 {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "the plugins before gave "+ifName+" no address", "")
	}
	return out, nil
}

// isPodAddress reports whether an address is that of the pod's interface. Some plugins do not name an interface.
func isPodAddress(r *types100.Result, ip *types100.IPConfig, ifName string) bool {
	if ip.Interface == nil {
		return true
	}
	i := *ip.Interface
	return i >= 0 && i < len(r.Interfaces) && r.Interfaces[i].Sandbox != "" && r.Interfaces[i].Name == ifName
}
