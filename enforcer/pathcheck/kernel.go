package pathcheck

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tierwall/tierwall/enforcer/command"
	"github.com/tierwall/tierwall/enforcer/spoof"
)

// rulesEvery is how often the rules of others are read, which takes programs.
const rulesEvery = time.Minute

// triesOfDumps is how often a dump is tried that changes interrupt.
const triesOfDumps = 5

// Kernel reads the facts of the network namespace of the calling thread.
type Kernel struct {
	// BeforeIPVS says that the backend's rules judge a packet before IPVS replaces a Service's address.
	BeforeIPVS bool

	rules     Facts
	rulesRead time.Time
	// routes are those of the last time.
	routes []spoof.Route
}

// Read is Reader's.
func (k *Kernel) Read(ctx context.Context) Facts {
	f := Facts{BeforeIPVS: k.BeforeIPVS, Unread: map[string]error{}}
	unread := func(what string, err error) {
		if err != nil {
			f.Unread[what] = err
		}
	}
	var err error
	f.Links, err = readLinks()
	unread("interfaces", err)
	if f.Routes, err = spoof.ReadRoutes(); errors.Is(err, netlink.ErrDumpInterrupted) {
		f.Routes, err = k.routes, nil // they change all the time, and are read again soon
	}
	k.routes = f.Routes
	unread("routes", err)
	f.Bridged[ipv4] = readNumber("/proc/sys/net/bridge/bridge-nf-call-iptables") == 1
	f.Bridged[ipv6] = readNumber("/proc/sys/net/bridge/bridge-nf-call-ip6tables") == 1
	f.Connections = readNumber("/proc/sys/net/netfilter/nf_conntrack_count")
	f.MaxConnections = readNumber("/proc/sys/net/netfilter/nf_conntrack_max")
	addPrograms(f.Links)
	if time.Since(k.rulesRead) > rulesEvery {
		k.rules, k.rulesRead = readRules(ctx), time.Now()
	}
	f.Flowtables, f.Untracked = k.rules.Flowtables, k.rules.Untracked
	return f
}

// readNumber is the number in a file, or 0 where there is none.
func readNumber(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return n
}

// Attributes of bridges that package netlink does not name (linux/if_link.h).
const (
	bridgeCallIPTables  = 36
	bridgeCallIP6Tables = 37
	xdpAttached         = 2
)

// readLinks dumps the interfaces with the settings of bridges.
func readLinks() ([]Link, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	var messages [][]byte
	var err error
	for range triesOfDumps {
		messages, err = request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // what changes all the time is read again soon
		return nil, err
	}
	var out []Link
	for _, m := range messages {
		if len(m) < unix.SizeofIfInfomsg {
			return nil, errors.New("a message is too short")
		}
		l := Link{}
		l.Index = int(nl.DeserializeIfInfomsg(m).Index)
		attributes, err := nl.ParseRouteAttr(m[unix.SizeofIfInfomsg:])
		if err != nil {
			return nil, err
		}
		for _, a := range attributes {
			switch a.Attr.Type {
			case unix.IFLA_IFNAME:
				l.Name = trimNUL(a.Value)
			case unix.IFLA_MASTER:
				l.Master = int(binary.NativeEndian.Uint32(a.Value))
			case unix.IFLA_LINKINFO:
				err = errors.Join(err, l.readInfo(a.Value))
			case unix.IFLA_XDP:
				err = errors.Join(err, l.readXDP(a.Value))
			}
		}
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", l.Name, err)
		}
		out = append(out, l)
	}
	return out, nil
}

func trimNUL(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }

// readInfo reads the kind of an interface, and of a bridge whether its packets go to the packet filter.
func (l *Link) readInfo(b []byte) error {
	info, err := nl.ParseRouteAttr(b)
	if err != nil {
		return err
	}
	for _, a := range info {
		switch a.Attr.Type {
		case nl.IFLA_INFO_KIND:
			l.Kind = trimNUL(a.Value)
		case nl.IFLA_INFO_DATA:
			if l.Kind != "bridge" {
				continue
			}
			data, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return err
			}
			for _, d := range data {
				set := len(d.Value) > 0 && d.Value[0] == 1
				switch d.Attr.Type {
				case bridgeCallIPTables:
					l.Bridged[ipv4] = set
				case bridgeCallIP6Tables:
					l.Bridged[ipv6] = set
				}
			}
		}
	}
	return nil
}

func (l *Link) readXDP(b []byte) error {
	data, err := nl.ParseRouteAttr(b)
	for _, d := range data {
		if d.Attr.Type == xdpAttached && len(d.Value) > 0 && d.Value[0] != 0 {
			l.Programs = append(l.Programs, "xdp")
		}
	}
	return err
}

// addPrograms finds the BPF programs of traffic control, of both generations, at pairs and bridges. What cannot be asked
// is not taken for one: without a filter nothing is there, and the newer kind needs a newer kernel.
func addPrograms(links []Link) {
	qdiscs, err := netlink.QdiscList(nil)
	if err != nil {
		return
	}
	classful := map[int]bool{}
	for _, q := range qdiscs {
		if q.Type() == "clsact" || q.Type() == "ingress" {
			classful[q.Attrs().LinkIndex] = true
		}
	}
	for i := range links {
		l := &links[i]
		if l.Kind != "veth" && l.Kind != "netkit" && l.Kind != "bridge" {
			continue
		}
		if classful[l.Index] {
			filters, _ := netlink.FilterList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}, netlink.HANDLE_MIN_INGRESS)
			for _, f := range filters {
				if b, ok := f.(*netlink.BpfFilter); ok {
					l.Programs = append(l.Programs, "tc "+b.Name)
				}
			}
		}
		for kind, attachment := range map[string]uint32{"tcx": tcxIngress, "netkit": netkitPrimary} {
			if n := attachedProgram(l.Index, attachment); n > 0 {
				l.Programs = append(l.Programs, fmt.Sprintf("%s (%d)", kind, n))
			}
		}
		slices.Sort(l.Programs) // equal facts are equal findings
	}
}

// Places where the kernel runs BPF programs (linux/bpf.h, enum bpf_attach_type).
const (
	tcxIngress    = 46
	netkitPrimary = 54
)

// attachedProgram is how many programs are at a place of an interface; 0 where that cannot be asked.
func attachedProgram(link int, place uint32) int {
	query := struct {
		link, place, flags, attachFlags uint32
		ids                             uint64
		count, _                        uint32
		linkIDs, linkFlags, revision    [1]uint64
	}{link: uint32(link), place: place}
	const bpfProgQuery = 16
	if _, _, errno := unix.Syscall(unix.SYS_BPF, bpfProgQuery, uintptr(unsafe.Pointer(&query)), unsafe.Sizeof(query)); errno != 0 {
		return 0
	}
	return int(query.count)
}

// readRules reads what others have in their tables that concerns us.
func readRules(ctx context.Context) (f Facts) {
	if out, err := command.Run(ctx, nil, "nft", "list", "flowtables"); err == nil {
		f.Flowtables = parseFlowtables(out)
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, mode := range []string{"nft", "legacy"} {
			if mode == "legacy" && !legacyRaw(family) {
				continue // reading a table that nobody uses makes it
			}
			if out, err := command.Run(ctx, nil, family+"-"+mode+"-save", "-t", "raw"); err == nil {
				f.Untracked = append(f.Untracked, parseUntracked(family, out)...)
			} else if !errors.Is(err, exec.ErrNotFound) {
				continue
			}
		}
	}
	return f
}

// legacyRaw reports whether iptables-legacy has a table raw.
func legacyRaw(family string) bool {
	path := map[string]string{"iptables": "/proc/net/ip_tables_names", "ip6tables": "/proc/net/ip6_tables_names"}[family]
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return false
	}
	for _, name := range strings.Fields(string(b)) {
		if name == "raw" {
			return true
		}
	}
	return false
}

// parseFlowtables reads what nft lists.
func parseFlowtables(text string) (out []string) {
	table := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) >= 3 && words[0] == "table":
			table = words[1] + " " + words[2]
		case len(words) >= 2 && words[0] == "flowtable":
			out = append(out, table+" "+words[1])
		}
	}
	return out
}

// parseUntracked reads the rules of a table raw that keep packets from connection tracking.
func parseUntracked(family, text string) (out []string) {
	for line := range strings.Lines(text) {
		if rule, ok := strings.CutPrefix(strings.TrimSpace(line), "-A "); ok && (strings.Contains(rule, "-j NOTRACK") || strings.Contains(rule, "--notrack")) {
			out = append(out, family+" "+rule)
		}
	}
	return out
}
