package pathcheck

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tierwall/tierwall/enforcer/spoof"
	"github.com/tierwall/tierwall/policy"
)

// The node of these tests: a pod on a pair, a bridge of pods, and its own link to the world.
const (
	pair = iota + 1
	cni0
	eth0
	other
)

func link(index int, name, kind string) Link {
	return Link{Link: spoof.Link{Index: index, Name: name, Kind: kind}}
}

func route(link int, to string) spoof.Route {
	return spoof.Route{Link: link, To: netip.MustParsePrefix(to)}
}

// soundFacts are those of a node on which nothing is amiss.
func soundFacts() Facts {
	bridge := link(cni0, "cni0", "bridge")
	gateway := route(eth0, "0.0.0.0/0")
	gateway.Gateway = true
	return Facts{
		Links:   []Link{link(pair, "veth0", "veth"), bridge, link(eth0, "eth0", "")},
		Routes:  []spoof.Route{route(pair, "10.0.1.2/32"), route(pair, "fd00::2/128"), route(pair, "fe80::/64"), route(cni0, "10.0.2.0/24"), gateway},
		Bridged: [2]bool{true, true}, Connections: 10, MaxConnections: 1000,
	}
}

func program() *policy.Program {
	return &policy.Program{
		Endpoints: []policy.Endpoint{{Namespace: "a", Name: "b", Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.2"), netip.MustParseAddr("fd00::2")}}},
		Local:     []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24")},
	}
}

func TestWhatIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Facts)
		want   []string
	}{
		"nothing":                     {func(*Facts) {}, nil},
		"a bridge without the filter": {func(f *Facts) { f.Bridged = [2]bool{} }, []string{"bridge open", "bridge open"}},
		"one that filters IPv4 alone": {func(f *Facts) { f.Bridged[ipv6] = false }, []string{"bridge open"}},
		"one that filters IPv6 alone": {func(f *Facts) { f.Bridged[ipv4] = false }, []string{"bridge open"}},
		"one that filters by itself":  {func(f *Facts) { f.Bridged = [2]bool{}; f.Links[1].Bridged = [2]bool{true, true} }, nil},
		"a bridge that is no pods'":   {func(f *Facts) { f.Bridged = [2]bool{}; f.Routes[3] = route(cni0, "172.17.0.0/16") }, nil},
		"pods behind Open vSwitch":    {func(f *Facts) { f.Links[1].Kind = "openvswitch" }, []string{"switch open"}},
		"pods behind macvlan":         {func(f *Facts) { f.Links[1].Kind = "macvlan" }, []string{"switch open"}},
		"macvlan that is no pods'":    {func(f *Facts) { f.Links[1].Kind = "macvlan"; f.Routes[3] = route(cni0, "192.168.0.0/24") }, nil},
		"BPF at a pod":                {func(f *Facts) { f.Links[0].Programs = []string{"tc monitor"} }, []string{"bpf limited"}},
		"BPF at a bridge of pods":     {func(f *Facts) { f.Links[1].Programs = []string{"xdp"} }, []string{"bpf limited"}},
		"BPF at the node's own link":  {func(f *Facts) { f.Links[2].Programs = []string{"xdp"} }, nil},
		"Cilium's": {func(f *Facts) {
			f.Links[0].Programs = []string{"tc cil_from_container"}
			f.Links[2].Name = "cilium_host"
		}, []string{"bpf open"}},
		"an address of no pod":     {func(f *Facts) { f.Routes = append(f.Routes, route(pair, "169.254.172.4/32")) }, []string{"address open"}},
		"one of IPv6":              {func(f *Facts) { f.Routes = append(f.Routes, route(pair, "2001:db8::4/128")) }, []string{"address open"}},
		"one of the pods' network": {func(f *Facts) { f.Routes = append(f.Routes, route(pair, "10.0.2.9/32")) }, nil},
		"flowtables":               {func(f *Facts) { f.Flowtables = []string{"inet filter f"} }, []string{"flowtable open"}},
		"IPVS with iptables":       {func(f *Facts) { f.BeforeIPVS = true; f.Links = append(f.Links, link(other, "kube-ipvs0", "dummy")) }, []string{"ipvs limited"}},
		"IPVS with nftables":       {func(f *Facts) { f.Links = append(f.Links, link(other, "kube-ipvs0", "dummy")) }, nil},
		"a full table":             {func(f *Facts) { f.Connections = f.MaxConnections }, []string{"conntrack limited"}},
		"rules against tracking":   {func(f *Facts) { f.Untracked = []string{"PREROUTING -j NOTRACK"} }, []string{"untracked limited"}},
		"what cannot be read":      {func(f *Facts) { f.Unread = map[string]error{"routes": errors.New("EPERM")} }, []string{"unknown open"}},
		"what is open comes first": {func(f *Facts) { f.Connections = 1000; f.Flowtables = []string{"x"} }, []string{"flowtable open", "conntrack limited"}},
		"an address that a pod learned": {func(f *Facts) {
			f.Routes = append(f.Routes, spoof.Route{Link: pair, To: netip.MustParsePrefix("2001:db8::4/128"), Learned: true})
		}, nil},
	} {
		f := soundFacts()
		c.change(&f)
		var got []string
		for _, x := range Check(f, program()) {
			got = append(got, string(x.Path)+" "+map[bool]string{true: "open", false: "limited"}[x.Open])
			if x.Detail == "" || x.Remedy == "" || !slices.Contains(Paths, x.Path) {
				t.Errorf("%s: %+v does not say what to do", name, x)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestWhatIsRead(t *testing.T) {
	if got := parseFlowtables("table inet filter {\n\tflowtable ft {\n\t\thook ingress priority filter\n\t}\n}\ntable ip nat {\n\tflowtable g {\n"); !slices.Equal(got, []string{"inet filter ft", "ip nat g"}) {
		t.Errorf("%q", got)
	}
	raw := "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 169.254.20.10/32 -p udp -m udp --dport 53 -j CT --notrack\n-A OUTPUT -j NOTRACK\n-A OUTPUT -j CT --zone 7\nCOMMIT\n"
	if got := parseUntracked("iptables", raw); len(got) != 2 || !strings.HasPrefix(got[0], "iptables PREROUTING -d 169.254.20.10/32") {
		t.Errorf("%q", got)
	}
}
