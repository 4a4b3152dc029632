package explain

import (
	"fmt"
	"net/netip"

	"github.com/tierwall/tierwall/cli/state"
)

// Unknown is a fact that an answer depends on and that is not known.
type Unknown struct {
	// Fact is what is not known, such as "the address of shop/statefulset/db".
	Fact string `json:"fact"`
	// Decides is what would tell it, such as "--pod-cidr".
	Decides string `json:"decides"`
}

func (u Unknown) String() string { return u.Fact + "; " + u.Decides }

func addressUnknown(m Member) Unknown {
	return Unknown{"the address of " + m.Name, "--pod-cidr says where pods have theirs"}
}

func nodeUnknown(m Member) Unknown {
	return Unknown{"the node of " + m.Name + " and its address", "its Node says so, or --node-cidr where nodes have theirs"}
}

func identityUnknown(a netip.Addr) Unknown {
	return Unknown{"whether " + a.String() + " is the address of a pod, a node or a Service", "--pod-cidr, --node-cidr and --service-cidr say where these have theirs"}
}

func podUnknown(m Member) Unknown {
	if m.missing != nil {
		return *m.missing
	}
	return Unknown{"which pod has the address " + m.addrs[0].String(), "its manifest with its address says so, or the live cluster"}
}

func labelUnknown(pod string, l state.OpenLabel) Unknown {
	return Unknown{fmt.Sprintf("the label %s of %s, which is set when it runs by %s", l.Key, pod, l.Setter), "the live cluster says so"}
}

func namespaceUnknown(name, key string) Unknown {
	return Unknown{fmt.Sprintf("the label %s of namespace %s", key, name), "its Namespace says so"}
}

func manyUnknown() Unknown {
	return Unknown{"labels in too many combinations to try all", "the live cluster says so"}
}
